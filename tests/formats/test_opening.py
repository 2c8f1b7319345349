"""Whatever lies at a path is opened, or refused with its name and what to do about it."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camelid.errors import CamelidError, FormatError, NotFound, TruncatedFile, UnsupportedFormat
from camelid.formats import (
    BlockType,
    Typed,
    ValueType,
    open_checkpoint,
    read,
    tensor_from_values,
    write_gguf,
    write_safetensors,
)

INDEX = "model.safetensors.index.json"


def ones(value: float = 1.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full((2, 4), value, np.float32)


def write_folder(folder: Path, weight_map: dict[str, Any]) -> Path:
    write_safetensors(folder / "model-1.safetensors", {"a": ones(1), "b": ones(2)}, {})
    write_safetensors(folder / "model-2.safetensors", {"c": ones(3)}, {})
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text('{"hidden_size": 4}')
    return folder


def write_split(folder: Path, count: int = 3, **changes: Any) -> Path:
    for number in range(count):
        metadata = {"split.no": Typed(ValueType.UINT16, number), "split.count": Typed(ValueType.UINT16, count)}
        metadata |= {"split.tensors.count": Typed(ValueType.INT32, count)} | (changes if number == 0 else {})
        path = folder / f"model-{number + 1:05d}-of-{count:05d}.gguf"
        write_gguf(path, metadata, [tensor_from_values(f"t{number}", ones(number), BlockType.F32)])
    return folder / f"model-00001-of-{count:05d}.gguf"


def refusal(path: Path | str) -> CamelidError:
    with pytest.raises(CamelidError) as caught:
        open_checkpoint(path)
    return caught.value


def test_a_gguf_file_is_opened_whatever_it_is_called(tmp_path: Path) -> None:
    write_gguf(tmp_path / "sha256-abc", {"a": 1}, [tensor_from_values("t", ones(), BlockType.F32)])
    with open_checkpoint(str(tmp_path / "sha256-abc")) as checkpoint:
        assert (dict(checkpoint.metadata), read(checkpoint, "t").tolist()) == ({"a": 1}, ones().tolist())


def test_a_safetensors_file_brings_the_config_beside_it(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", {"t": ones()}, {"format": "pt"})
    assert dict(open_checkpoint(tmp_path / "m.safetensors").metadata) == {"format": "pt"}
    (tmp_path / "config.json").write_text('{"hidden_size": 4}')
    assert dict(open_checkpoint(tmp_path / "m.safetensors").metadata) == {"hidden_size": 4}


def test_a_folder_with_one_safetensors_file_is_opened(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"t": ones()}, {})
    (tmp_path / "config.json").write_text('{"hidden_size": 4}')
    with open_checkpoint(tmp_path) as checkpoint:
        assert (dict(checkpoint.metadata), list(checkpoint.tensors)) == ({"hidden_size": 4}, ["t"])


def test_a_folder_of_shards_is_opened_as_one(tmp_path: Path) -> None:
    files = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    with open_checkpoint(write_folder(tmp_path, files)) as checkpoint:
        assert (dict(checkpoint.metadata), list(checkpoint.tensors)) == ({"hidden_size": 4}, ["a", "b", "c"])
        assert [read(checkpoint, name)[0, 0] for name in "abc"] == [1, 2, 3]
        with pytest.raises(NotFound, match="holds no tensor 'd'"):
            checkpoint.raw("d")


def test_shards_may_be_links_as_in_the_hugging_face_cache(tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    write_folder(folder, {"c": "model-2.safetensors"})
    (folder / "model-2.safetensors").rename(tmp_path / "blob")
    (folder / "model-2.safetensors").symlink_to(tmp_path / "blob")
    assert list(open_checkpoint(folder).tensors) == ["c"]


@pytest.mark.parametrize(
    "name",
    ["../model-1.safetensors", "/etc/model.safetensors", "a/b.safetensors", "..\\b.safetensors", "C:b.safetensors",
     "", "..", "model-1.bin", "a\0.safetensors", "a\n.safetensors", 5, None, ["model-1.safetensors"]],
)  # fmt: skip
def test_an_index_cannot_name_a_file_outside_its_folder(tmp_path: Path, name: Any) -> None:
    error = refusal(write_folder(tmp_path, {"a": name}))
    assert isinstance(error, FormatError)
    assert error.message.endswith("but it is the name of a file beside the index")


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    error = refusal(write_folder(tmp_path, {"a": "model-1.safetensors", "z": "model-2.safetensors"}))
    assert "shard of tensor 'z' is 'model-2.safetensors', but that file does not hold it" in error.message
    error = refusal(write_folder(tmp_path, {"a": "model-3.safetensors"}))
    assert "shard is 'model-3.safetensors', but that file is not there" in error.message
    assert error.hint == "download the missing shard"
    assert "weight_map is {}" in refusal(write_folder(tmp_path, {})).message


def test_a_split_gguf_is_opened_as_one(tmp_path: Path) -> None:
    with open_checkpoint(write_split(tmp_path)) as checkpoint:
        assert list(checkpoint.tensors) == ["t0", "t1", "t2"]
        assert [read(checkpoint, name)[0, 0] for name in checkpoint.tensors] == [0, 1, 2]
        assert checkpoint.metadata["split.count"] == 3


def test_a_split_gguf_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    first = write_split(tmp_path)
    second = first.with_name("model-00002-of-00003.gguf")
    assert "split.no is 1, but a set is opened by its first file" in refusal(second).message
    assert refusal(second).hint == "open model-00001-of-00003.gguf"
    first.rename(tmp_path / "other.gguf")
    assert "name of the file is 'other.gguf', but a part of 3" in refusal(tmp_path / "other.gguf").message
    second.rename(first.with_name("model-00003-of-00003.gguf"))
    (tmp_path / "other.gguf").rename(first)
    assert "split.count is 3, but model-00002-of-00003.gguf is not there" in refusal(first).message


def test_a_split_gguf_whose_parts_disagree_is_refused(tmp_path: Path) -> None:
    first = write_split(tmp_path)
    third = first.with_name("model-00003-of-00003.gguf")
    third.write_bytes(first.with_name("model-00002-of-00003.gguf").read_bytes())
    assert "split.no is 1, but model-00001-of-00003.gguf expects 2 here" in refusal(first).message
    first = write_split(tmp_path, **{"split.tensors.count": 7})
    assert "split.tensors.count is 7, but the parts hold 3 tensors" in refusal(first).message
    assert "split.count is 5000" in refusal(write_split(tmp_path, **{"split.count": 5000})).message


OTHERS: dict[str, tuple[bytes, str, str]] = {
    "pickle": (pickle.dumps({"a": 1}), "a Python pickle", "take the model as safetensors or GGUF"),
    "ggjt": (b"tjgg" + bytes(40), "a GGJT file", "convert the model again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "run: git lfs pull"),
    "html": (b"<!DOCTYPE html><html>", "a web page", "download the file itself"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "a gzip archive", "unpack it first"),
    "text": (b"hello, this is no model", "b'hello, this is n'", "check that the download is complete"),
    "zeros": (bytes(64), "a GGUF file begins with b'GGUF'", "check that the download is complete"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_kinds_of_files_are_refused_by_name(case: str, tmp_path: Path) -> None:
    raw, name, hint = OTHERS[case]
    (tmp_path / "file").write_bytes(raw)
    error = refusal(tmp_path / "file")
    assert isinstance(error, UnsupportedFormat)
    assert name in error.message
    assert error.hint is not None
    assert error.hint.startswith(hint)


def test_a_pytorch_checkpoint_is_refused_without_being_unpickled(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "consolidated.00.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\n")
    error = refusal(tmp_path / "consolidated.00.pth")
    assert "a zip archive, as PyTorch writes its .pth, .pt and .bin checkpoints" in error.message
    folder_error = refusal(tmp_path)
    assert folder_error.hint is not None
    assert folder_error.hint.startswith("consolidated.00.pth is a pickle; take the model as safetensors or GGUF")


def test_paths_without_a_model_are_refused_with_a_hint(tmp_path: Path) -> None:
    assert type(refusal(tmp_path / "none.gguf")) is NotFound
    assert type(refusal(tmp_path / "zero\0byte")) is NotFound
    assert "content of the folder is 'nothing'" in refusal(tmp_path).message
    (tmp_path / "empty.gguf").touch()
    assert type(refusal(tmp_path / "empty.gguf")) is TruncatedFile
    assert type(refusal(tmp_path / "empty.gguf" / "below")) is NotFound
    assert refusal(tmp_path).hint == f"name the file: {tmp_path / 'empty.gguf'}"
    os.mkfifo(tmp_path / "pipe")
    assert "kind of file is 'p" in refusal(tmp_path / "pipe").message


def test_a_folder_without_a_sane_config_is_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"t": ones()}, {})
    assert refusal(tmp_path).hint == "download config.json as well"
    for content in ("[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": ' + "[" * 50_000, ""):
        (tmp_path / "config.json").write_text(content)
        assert isinstance(refusal(tmp_path), FormatError), content


def test_unknown_block_types_and_versions_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, {}, [tensor_from_values("t", ones(), BlockType.F32)])
    raw = path.read_bytes()
    at = raw.index(struct.pack("<QQIQ", 4, 2, 0, 0)) + 16  # the type, after the dimensions and before the offset
    path.write_bytes(raw[:at] + struct.pack("<I", 99) + raw[at + 4 :])
    assert refusal(path).hint == "update camelid, or take the model in another quantization"
    path.write_bytes(raw[:4] + struct.pack("<I", 4) + raw[8:])
    assert refusal(path).hint == "update camelid"
