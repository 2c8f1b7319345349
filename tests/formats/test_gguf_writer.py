"""Written GGUF files are read alike by us and by the `gguf` package, and appear whole or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.errors import InvalidRequest
from camelid.formats import (
    BlockType,
    GgufCheckpoint,
    TensorSource,
    Typed,
    ValueType,
    decode,
    encode,
    read,
    tensor_from_raw,
    tensor_from_values,
    write_gguf,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    TEXT
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(width=32, allow_nan=False)
    | st.integers(0, 65_535).map(lambda n: Typed(ValueType.UINT16, n))
)
ARRAYS = (
    st.lists(TEXT, max_size=5)
    | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5)
    | st.lists(st.booleans(), max_size=5)
    | st.lists(st.floats(width=32, allow_nan=False), max_size=5)
)
METADATA = st.dictionaries(TEXT.filter(bool).map(lambda name: f"x.{name}"), SCALARS | ARRAYS, max_size=6)
ENCODABLE = [block_type for block_type in BlockType if block_type.is_encodable]


def plain(value: Any) -> Any:
    return value.value if isinstance(value, Typed) else value


@given(METADATA)
@settings(deadline=None)
def test_metadata_reads_back_the_same_by_us_and_by_the_gguf_package(
    tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("written") / "file.gguf"
    write_gguf(path, metadata, [])
    expected = {key: plain(value) for key, value in metadata.items()}
    assert dict(GgufCheckpoint(path).metadata) == expected
    theirs = {key: field.contents() for key, field in GGUFReader(path).fields.items() if not key.startswith("GGUF.")}
    assert {key: [] if value is None else value for key, value in theirs.items()} == expected


def test_tensors_of_every_written_type_read_back_the_same_by_both(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    values = np.random.default_rng(0).standard_normal((3, 2, 256)).astype(np.float32)
    write_gguf(path, {}, [tensor_from_values(t.name, values, t) for t in ENCODABLE])
    theirs = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    with GgufCheckpoint(path) as ours:
        assert list(ours.tensors) == [t.name for t in ENCODABLE]
        for block_type in ENCODABLE:
            blocks = encode(values.reshape(6, 256), block_type)
            np.testing.assert_array_equal(ours.raw(block_type.name), blocks)
            np.testing.assert_array_equal(read(ours, block_type.name), decode(blocks, block_type).reshape(3, 2, 256))
            assert theirs[block_type.name].data.tobytes() == blocks.tobytes()
            assert theirs[block_type.name].shape.tolist() == [256, 2, 3]


def test_a_file_written_from_what_was_read_is_the_same_file(tmp_path: Path) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    metadata = {
        "general.alignment": 64,
        "short": Typed(ValueType.UINT16, 3),
        "long": Typed(ValueType.INT64, -3),
        "double": Typed(ValueType.FLOAT64, 0.1),
        "array": Typed(ValueType.UINT8, [1, 2]),
        "words": ["a", "", "ü"],
        "none": Typed(ValueType.STRING, []),
        "numpy": np.arange(3, dtype=np.float64),
    }
    write_gguf(first, metadata, [tensor_from_values("a", np.ones((3, 5), np.float32), BlockType.F16)])
    with GgufCheckpoint(first) as read_back:
        tensors = [
            tensor_from_raw(info.name, info.shape, info.block_type, read_back.raw(info.name))
            for info in read_back.tensors.values()
        ]
        write_gguf(second, read_back.typed_metadata, tensors)
    assert first.read_bytes() == second.read_bytes()


def test_default_types_are_those_of_published_files(tmp_path: Path) -> None:
    metadata = {"count": 5, "below": -5, "large": 2**33, "rate": 0.5, "flag": True, "ids": [1, 2], "name": "x"}
    write_gguf(tmp_path / "file.gguf", metadata, [])
    types = {key: typed.value_type for key, typed in GgufCheckpoint(tmp_path / "file.gguf").typed_metadata.items()}
    assert types == {
        "count": ValueType.UINT32,
        "below": ValueType.INT32,
        "large": ValueType.UINT64,
        "rate": ValueType.FLOAT32,
        "flag": ValueType.BOOL,
        "ids": ValueType.INT32,
        "name": ValueType.STRING,
    }


def test_tensors_are_produced_one_after_the_other_in_chunks(tmp_path: Path) -> None:
    order: list[str] = []

    def source(name: str) -> TensorSource:
        def produce() -> Any:
            for part in range(3):
                order.append(f"{name}{part}")
                yield np.full((1, 4), part, np.uint8)

        return TensorSource(name, (3, 1), BlockType.F32, produce)

    write_gguf(tmp_path / "file.gguf", {}, [source("a"), source("b")])
    assert order == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert GgufCheckpoint(tmp_path / "file.gguf").raw("b").tolist() == [[0] * 4, [1] * 4, [2] * 4]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    write_gguf(path, {"old": 1}, [])
    short = TensorSource("t", (4,), BlockType.F32, lambda: [np.zeros(15, np.uint8)])
    with pytest.raises(ValueError, match="tensor 't' produced 15 bytes, and its shape asks for 16"):
        write_gguf(path, {"new": 1}, [short])
    assert dict(GgufCheckpoint(path).metadata) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("metadata", "tensors", "message"),
    [
        ({"a": None}, [], "'a' is of type NoneType, which GGUF metadata cannot hold"),
        ({"a": [1, "x"]}, [], r"'a' is an array of \['int', 'str'\], but its type must be one"),
        ({"a": 2**64}, [], "'a' holds a value that is no UINT64"),
        ({"a": 1e300}, [], "'a' holds a value that is no FLOAT32"),
        ({"a": Typed(ValueType.UINT8, 256)}, [], "'a' holds a value that is no UINT8"),
        ({"a": Typed(ValueType.UINT8, 1.5)}, [], "'a' holds a fraction, which is no UINT8"),
        ({"a": np.zeros(2, np.complex64)}, [], "'a' is an array of complex64"),
        ({"": 1}, [], "the name of a key or tensor is empty"),
        ({"k" * 2000: 1}, [], "has 2000 bytes, but at most 1024"),
        ({"general.alignment": 12}, [], "general.alignment is 12, but it is a power of two from 8 to 1048576"),
        ({}, [("t", (4,)), ("t", (4,))], "two tensors are named 't'"),
        ({}, [("t", ())], r"tensor 't' has the shape \(\), but GGUF has 1 to 4 dimensions, none 0"),
        ({}, [("t", (4, 0))], r"tensor 't' has the shape \(4, 0\)"),
        ({}, [("t", (1, 1, 1, 1, 4))], r"tensor 't' has the shape \(1, 1, 1, 1, 4\)"),
    ],
)
def test_what_a_reader_would_refuse_is_not_written(
    tmp_path: Path, metadata: dict[str, Any], tensors: list[tuple[str, tuple[int, ...]]], message: str
) -> None:
    sources = [TensorSource(name, shape, BlockType.F32, lambda: [np.zeros(16, np.uint8)]) for name, shape in tensors]
    with pytest.raises(InvalidRequest, match=message):
        write_gguf(tmp_path / "file.gguf", metadata, sources)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_no_whole_blocks_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="a row of 100 weights cannot be Q6_K"):
        write_gguf(tmp_path / "f.gguf", {}, [tensor_from_values("t", np.zeros((2, 100), np.float32), BlockType.Q6_K)])
