"""Meta's `.pth` files: read without running anything, refused where they hold more than tensors."""

from __future__ import annotations

import collections
import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from camelid.errors import CamelidError, FormatError, TruncatedFile, UnsupportedFormat
from camelid.formats import open_checkpoint, tensor_from_raw
from camelid.formats.blocks import BlockType
from camelid.formats.pth import PthCheckpoint, write_pth


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"a": torch.randn(3, 4).bfloat16(), "b": torch.randn(5).half(), "c": torch.randn(2, 2)}


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_tensors_that_torch_saved_are_read_bit_for_bit(tmp_path: Path, kind: Any) -> None:
    with PthCheckpoint(saved(tmp_path / "x.pth", kind(tensors()))) as checkpoint:
        found = {name: (info.shape, info.block_type) for name, info in checkpoint.tensors.items()}
        assert found == {"a": ((3, 4), BlockType.BF16), "b": ((5,), BlockType.F16), "c": ((2, 2), BlockType.F32)}
        for name, tensor in tensors().items():
            assert checkpoint.raw(name).tobytes() == tensor.view(torch.uint8).numpy().tobytes()


def test_a_modules_state_and_views_of_one_storage_are_read(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    with PthCheckpoint(saved(tmp_path / "x.pth", module.state_dict())) as checkpoint:
        assert list(checkpoint.tensors) == ["weight", "bias"]
    whole = torch.arange(12.0)
    with PthCheckpoint(saved(tmp_path / "y.pth", {"low": whole[:4], "high": whole[4:].reshape(2, 4)})) as checkpoint:
        assert checkpoint.raw("high").view(np.float32).tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]


def test_what_is_written_is_what_torch_loads(tmp_path: Path) -> None:
    with PthCheckpoint(saved(tmp_path / "x.pth", tensors())) as checkpoint:
        infos = checkpoint.tensors.values()
        sources = [tensor_from_raw(info.name, info.shape, info.block_type, checkpoint.raw(info.name)) for info in infos]
        write_pth(tmp_path / "y.pth", sources)
    for options in ({}, {"mmap": True}):
        loaded = torch.load(tmp_path / "y.pth", weights_only=True, **options)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())
    with PthCheckpoint(tmp_path / "y.pth") as again:
        assert all(again.raw(name).ctypes.data % 64 == 0 for name in again.tensors)


class Runs:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("it-ran",)


@pytest.mark.parametrize(
    "value",
    [{"a": Runs()}, Runs(), {"a": [1, 2]}, {"a": 1}, [torch.ones(2)], {1: torch.ones(2)}, {"a": torch.ones(2, 3).T}],
    ids=["code in it", "code alone", "a list", "a number", "no mapping", "no name", "not dense"],
)
def test_anything_but_dense_tensors_under_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError):
        PthCheckpoint(saved(tmp_path / "x.pth", value))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def archive(path: Path, program: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x/data.pkl", program)
    return path


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"\x80\x02}q\x00",
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
        b"\x80\x02h\x05.",
        b"\x80\x02" + b"(" * 100_000,
        b"\x80\x02\x8a\xff\x00.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02(i__builtin__\neval\n.",
        pickle.dumps({"a": b"bytes"}),
    ],
)
def test_programs_of_any_other_kind_are_refused(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(FormatError):
        PthCheckpoint(archive(tmp_path / "x.pth", program))


def test_an_archive_that_is_compressed_cut_off_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="compressed"):
        PthCheckpoint(archive(tmp_path / "x.pth", b"\x80\x02}." + bytes(1000), zipfile.ZIP_DEFLATED))
    content = saved(tmp_path / "y.pth", tensors()).read_bytes()
    (tmp_path / "y.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError):
        PthCheckpoint(tmp_path / "y.pth")
    (tmp_path / "z.pth").write_bytes(b"")
    with pytest.raises(TruncatedFile):
        PthCheckpoint(tmp_path / "z.pth")


def test_a_file_that_was_changed_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    rng, path = random.Random(3), tmp_path / "x.pth"
    content = saved(path, tensors()).read_bytes()
    num_read = 0
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            with PthCheckpoint(path) as checkpoint:
                for name in checkpoint.tensors:
                    checkpoint.raw(name).sum()
            num_read += 1
        except CamelidError:
            continue
    assert 0 < num_read < 400


def test_a_single_pth_is_answered_with_what_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat) as told:
        open_checkpoint(saved(tmp_path / "model.pt", tensors()))
    assert "params.json" in (told.value.hint or "")


def meta_folder(folder: Path, num_files: int) -> Path:
    folder.mkdir()
    (folder / "params.json").write_text('{"dim": 4, "n_layers": 1}')
    wo, wq = torch.arange(16.0).reshape(4, 4), torch.arange(16.0, 32.0).reshape(4, 4)
    for number in range(num_files):
        part = {
            "norm.weight": torch.ones(4),
            "layers.0.attention.wo.weight": wo.chunk(num_files, 1)[number].contiguous(),
            "layers.0.attention.wq.weight": wq.chunk(num_files, 0)[number].clone(),
            "tok_embeddings.weight": torch.full((2, 4), float(number)),
        }
        torch.save(part, folder / f"consolidated.{number:02d}.pth")
    return folder


@pytest.mark.parametrize("num_files", [1, 2, 4])
def test_metas_parts_are_put_together(tmp_path: Path, num_files: int) -> None:
    with open_checkpoint(meta_folder(tmp_path / "m", num_files)) as checkpoint:
        values = {name: checkpoint.raw(name).view(np.float32) for name in checkpoint.tensors}
        assert checkpoint.metadata["dim"] == 4
        assert checkpoint.tensors["norm.weight"].shape == (4,)
        assert values["layers.0.attention.wo.weight"].ravel().tolist() == list(range(16))
        assert values["layers.0.attention.wq.weight"].ravel().tolist() == list(range(16, 32))
        assert checkpoint.tensors["tok_embeddings.weight"].shape == (2 * num_files, 4)


def test_a_part_that_is_missing_or_of_another_model_is_said(tmp_path: Path) -> None:
    folder = meta_folder(tmp_path / "m", 4)
    torch.save({**tensors()}, folder / "consolidated.03.pth")
    with pytest.raises(FormatError, match="of file 03"):
        open_checkpoint(folder)
    (folder / "consolidated.02.pth").unlink()
    with pytest.raises(FormatError, match="without a gap"):
        open_checkpoint(folder)


def test_torch_agrees_on_what_the_names_are(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(tensors(), buffer)
    (tmp_path / "x.pth").write_bytes(buffer.getvalue())
    with PthCheckpoint(tmp_path / "x.pth") as checkpoint:
        assert list(checkpoint.tensors) == list(torch.load(tmp_path / "x.pth", weights_only=True))
