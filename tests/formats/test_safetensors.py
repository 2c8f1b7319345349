"""Safetensors files are read like the `safetensors` package reads them, or refused with field, value and rule."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from camelid.errors import FormatError, NotFound, TruncatedFile, UnsupportedFormat
from camelid.formats import BlockType, SafetensorsCheckpoint, TensorInfo, read, write_safetensors


def spelled(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(begin: int = 0, end: int = 8, dtype: Any = "F32", shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def refusal(folder: Path, raw: bytes) -> FormatError:
    path = folder / "file.safetensors"
    path.write_bytes(raw)
    with pytest.raises(FormatError) as caught:
        SafetensorsCheckpoint(path)
    assert caught.value.path == path
    return caught.value


def test_reads_what_the_safetensors_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    chance = np.random.default_rng(0)
    arrays = {
        "a": chance.standard_normal((3, 2, 4)).astype(np.float32),
        "b": chance.standard_normal(5).astype(np.float16),
        "c": chance.integers(-9, 9, (2, 2)),
        "scalar": np.array(1.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    save_file(arrays, path, metadata={"format": "pt"})
    with SafetensorsCheckpoint(path) as checkpoint:
        assert dict(checkpoint.metadata) == {"format": "pt"}
        assert checkpoint.tensors["a"] == TensorInfo("a", (3, 2, 4), BlockType.F32, 96)
        assert {name: info.shape for name, info in checkpoint.tensors.items()} == {
            n: a.shape for n, a in arrays.items()
        }
        for name in ("a", "b", "scalar", "empty"):
            np.testing.assert_array_equal(read(checkpoint, name), arrays[name])
        assert checkpoint.raw("a").shape == (6, 16)
        assert checkpoint.raw("c").tobytes() == arrays["c"].tobytes()


def test_bf16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(spelled({"t": entry(0, 4, "BF16")}, np.array([0x3FC0, 0xC000], "<u2").tobytes()))
    assert read(SafetensorsCheckpoint(path), "t").tolist() == [1.5, -2.0]


def test_the_safetensors_package_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    arrays = {"b": np.arange(6, dtype=np.float16).reshape(2, 3), "a": np.arange(3, dtype=np.float64)}
    write_safetensors(path, arrays, {"note": "ü"})
    theirs = load_file(path)
    assert {name: array.tolist() for name, array in theirs.items()} == {"a": [0, 1, 2], "b": [[0, 1, 2], [3, 4, 5]]}
    with SafetensorsCheckpoint(path) as ours:
        assert (list(ours.tensors), dict(ours.metadata)) == (["b", "a"], {"note": "ü"})


def test_a_missing_tensor_is_not_found(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "f", {"norm": np.zeros(1, np.float32)}, {})
    with pytest.raises(NotFound, match="holds no tensor 'nrom'") as caught:
        SafetensorsCheckpoint(tmp_path / "f").raw("nrom")
    assert caught.value.hint == "the nearest names are norm"


LONG = 100_000_001
REFUSED: dict[str, tuple[bytes, type[FormatError], str]] = {
    "seven_bytes": (bytes(7), TruncatedFile, "size is 7, but a safetensors file begins with 8 bytes of header length"),
    "header_beyond_file": (b"\x10" + bytes(7) + b"{}", TruncatedFile, "header length is 16, but only 2 bytes follow"),
    "header_too_long": (
        LONG.to_bytes(8, "little") + b"{}",
        FormatError,
        f"header length is {LONG}, but at most 100000000",
    ),
    "header_empty": (bytes(8), FormatError, "first byte of the header is b'', but it is b'{'"),
    "header_starts_with_space": (spelled(b" {}"), FormatError, "first byte of the header is b' ', but it is b'{'"),
    "header_no_json": (spelled(b"{]"), FormatError, "header is b'{]', but it must be JSON: Expecting property name"),
    "header_not_utf8": (spelled(b'{"\xff": 1}'), FormatError, "it must be JSON: 'utf-8' codec can't decode byte 0xff"),
    "header_two_values": (spelled(b"{}{}"), FormatError, "it must be JSON: Extra data"),
    "header_deep": (spelled(b'{"a":' + b"[" * 100_000), FormatError, "it must be JSON: maximum recursion depth"),
    "header_many": (
        spelled(b'{"a":[' + b"1," * 2_000_000 + b"1]}"),
        FormatError,
        "number of elements of the header is 2000002, but at most 1048576 are read",
    ),
    "key_twice": (
        spelled(b'{"t":%(e)s,"t":%(e)s}' % {b"e": json.dumps(entry()).encode()}, bytes(8)),
        FormatError,
        "the key 't' stands twice in an object",
    ),
    "half_a_surrogate": (spelled(rb'{"\ud800": 1}'), FormatError, "it must be JSON: 'utf-8' codec can't encode"),
    "nan": (spelled({"t": entry(shape=[float("nan")])}, bytes(8)), FormatError, "NaN is no number in JSON"),
    "metadata_of_numbers": (spelled({"__metadata__": {"a": 1}}), FormatError, "__metadata__ is {'a': 1}, but it maps"),
    "entry_no_object": (spelled({"t": 1}), FormatError, "entry of tensor 't' is 1, but it has dtype, shape and"),
    "entry_with_more": (spelled({"t": entry() | {"x": 1}}, bytes(8)), FormatError, "data_offsets, nothing else"),
    "dtype_float8": (
        spelled({"t": entry(0, 2, "F8_E4M3")}, bytes(2)),
        UnsupportedFormat,
        "dtype of tensor 't' is 'F8_E4M3', but only F32, F16, BF16, F64, I64, I32, I16, I8 are read",
    ),
    "dtype_no_string": (spelled({"t": entry(dtype=[])}, bytes(8)), UnsupportedFormat, "dtype of tensor 't' is []"),
    "shape_negative": (spelled({"t": entry(shape=[-2])}, bytes(8)), FormatError, "shape of tensor 't' is [-2]"),
    "shape_of_bools": (
        spelled({"t": entry(shape=[2, True])}, bytes(8)),
        FormatError,
        "shape of tensor 't' is [2, True]",
    ),
    "shape_of_floats": (spelled({"t": entry(shape=[2.0])}, bytes(8)), FormatError, "shape of tensor 't' is [2.0]"),
    "shape_overflows": (
        spelled({"t": entry(0, 0, shape=[2**32, 2**32])}),
        FormatError,
        "shape of tensor 't' is [4294967296, 4294967296], but its dimensions together are less than 2**63",
    ),
    "shape_overflows_beside_0": (
        spelled({"t": entry(0, 0, shape=[2**62, 4, 0])}),
        FormatError,
        f"shape of tensor 't' is [{2**62}, 4, 0], but its dimensions together are less than 2**63",
    ),
    "offsets_three": (spelled({"t": entry() | {"data_offsets": [0, 8, 8]}}, bytes(8)), FormatError, "is [0, 8, 8]"),
    "offsets_reversed": (spelled({"t": entry(8, 0)}, bytes(8)), FormatError, "data_offsets of tensor 't' is [8, 0]"),
    "offsets_too_small": (spelled({"t": entry(0, 4)}, bytes(4)), FormatError, "the shape [2] in F32 takes 8 bytes"),
    "overlap": (
        spelled({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
        FormatError,
        "begin of tensor 'b' is 4, but that overlaps the tensor before it: 8 is the next free byte",
    ),
    "hole": (
        spelled({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)),
        FormatError,
        "begin of tensor 'b' is 12, but that leaves a hole after the data before it: 8 is the next free byte",
    ),
    "data_cut": (spelled({"t": entry()}, bytes(7)), TruncatedFile, "end of tensor 't' is 8, but only 7 bytes"),
    "trailing_bytes": (
        spelled({"t": entry()}, bytes(9)),
        FormatError,
        "size of the tensor data is 9, but its tensors take 8",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_lies_is_refused_with_field_value_and_rule(case: str, tmp_path: Path) -> None:
    raw, kind, message = REFUSED[case]
    error = refusal(tmp_path, raw)
    assert type(error) is kind
    assert message in error.message


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    raw = spelled({"a": entry(0, 8), "b": entry(8, 16)}, bytes(16))
    for size in range(len(raw)):
        refusal(tmp_path, raw[:size])
