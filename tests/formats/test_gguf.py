"""GGUF files are read whole or refused with the field, the value and the rule."""

import struct
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf as gguf_package
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.errors import FormatError, NotFound, TruncatedFile, UnsupportedFormat
from camelid.formats import BlockType, GgufCheckpoint, TensorInfo, Typed, ValueType, decode, read
from camelid.formats.gguf_strings import locate_strings

from .gguf_bytes import ARRAY, BOOL, STRING, UINT32, array, gguf, header, key, tensor, text


def opened(folder: Path, raw: bytes) -> GgufCheckpoint:
    path = folder / "file.gguf"
    path.write_bytes(raw)
    return GgufCheckpoint(path)


def refusal(folder: Path, raw: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        opened(folder, raw)
    return caught.value


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    values = np.random.default_rng(0).standard_normal((6, 256)).astype(np.float32)
    blocks = gguf_package.quants.quantize(values, gguf_package.GGMLQuantizationType.Q8_0)
    writer = gguf_package.GGUFWriter(path, "llama")
    writer.add_uint64("size", 2**40)
    writer.add_float32("rate", 0.5)
    writer.add_bool("flag", True)
    writer.add_token_list(["a", "ĠLlama", "🦙"])
    writer.add_token_scores([0.5, -1.0, 2.0])
    writer.add_tensor("plain", values)
    writer.add_tensor("blocks", blocks, raw_dtype=gguf_package.GGMLQuantizationType.Q8_0)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    with GgufCheckpoint(path) as checkpoint:
        assert dict(checkpoint.metadata) == {
            "general.architecture": "llama",
            "size": 2**40,
            "rate": 0.5,
            "flag": True,
            "tokenizer.ggml.tokens": ["a", "ĠLlama", "🦙"],
            "tokenizer.ggml.scores": [0.5, -1.0, 2.0],
        }
        assert dict(checkpoint.tensors) == {
            "plain": TensorInfo("plain", (6, 256), BlockType.F32, 6144),
            "blocks": TensorInfo("blocks", (6, 256), BlockType.Q8_0, 6 * 272),
        }
        np.testing.assert_array_equal(read(checkpoint, "plain"), values)
        np.testing.assert_array_equal(checkpoint.raw("blocks"), blocks)
        np.testing.assert_array_equal(read(checkpoint, "blocks"), decode(blocks, BlockType.Q8_0))


def test_version_2_reads_like_version_3(tmp_path: Path) -> None:
    raw = bytearray(gguf([key("a", UINT32, struct.pack("<I", 7))], [tensor()], bytes(32)))
    raw[4] = 2
    checkpoint = opened(tmp_path, bytes(raw))
    assert (checkpoint.version, dict(checkpoint.metadata), list(checkpoint.tensors)) == (2, {"a": 7}, ["t"])


def test_raw_bytes_are_read_only_and_outlive_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, gguf(tensors=[tensor()], data=bytes(range(32))))
    rows = checkpoint.raw("t")
    checkpoint.close()
    assert rows.tolist() == [list(range(16)), list(range(16, 32))]
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1
    with pytest.raises(ValueError, match="is closed"):
        checkpoint.raw("t")


def test_a_missing_tensor_is_not_found_and_the_nearest_name_is_told(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, gguf(tensors=[tensor("blk.0.attn_q.weight")], data=bytes(32)))
    with pytest.raises(NotFound, match=r"holds no tensor 'blk\.0\.attn_k\.weight'") as caught:
        read(checkpoint, "blk.0.attn_k.weight")
    assert caught.value.hint == "the nearest names are blk.0.attn_q.weight"


def test_tensors_may_be_listed_in_another_order_than_they_lie(tmp_path: Path) -> None:
    entries = [tensor("b", offset=32), tensor("a", offset=0)]
    checkpoint = opened(tmp_path, gguf(tensors=entries, data=bytes(32) + b"\1" * 32))
    assert (checkpoint.raw("a").max(), checkpoint.raw("b").min()) == (0, 1)


def test_a_large_vocabulary_opens_fast_and_stays_in_the_file(tmp_path: Path) -> None:
    """The size of Llama 3's: 128,256 tokens, as many types and scores, 280,147 merges."""
    chance = np.random.default_rng(0)
    words = ["".join(chance.choice(list("abcdeĠé"), size=n)) for n in chance.integers(1, 14, 2000)]
    tokens = [f"{words[i % 2000]}{i}" for i in range(128_256)]
    tokens[77] = " " * 300  # longer than one byte of length can say
    merges = [f"{tokens[i % 128_256]} {words[i % 2000]}" for i in range(280_147)]
    keys = [
        key("tokens", ARRAY, array(STRING, len(tokens), b"".join(map(text, tokens)))),
        key("types", ARRAY, array(5, len(tokens), np.ones(len(tokens), "<i4").tobytes())),
        key("merges", ARRAY, array(STRING, len(merges), b"".join(map(text, merges)))),
    ]
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(gguf(keys))
    started = time.process_time()
    metadata = GgufCheckpoint(path).metadata
    assert time.process_time() - started < 1.0  # about 0.1 s; ten times that is no longer the same algorithm
    assert list(metadata["tokens"]) == tokens
    assert (metadata["merges"][-1], metadata["merges"][5:8]) == (merges[-1], merges[5:8])
    assert metadata["types"] == [1] * len(tokens)
    tracemalloc.start()
    GgufCheckpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


TRICKY = [b"", b"\0" * 20, b"x" * 300, b"y" * 65_535]


@given(st.lists(st.binary(max_size=12) | st.sampled_from(TRICKY), max_size=40), st.data())
@settings(deadline=None)
def test_strings_are_found_wherever_their_lengths_lead(few: list[bytes], data: Any) -> None:
    strings = few * data.draw(st.sampled_from([1, 60])) if sum(map(len, few)) < 2000 else few
    raw = np.frombuffer(b"junk" + b"".join(map(text, strings)) + b"\1" * 9, np.uint8)
    bounds = locate_strings(raw, 4, len(strings))
    assert [raw[a : b - 8].tobytes() for a, b in pairwise(bounds)] == strings
    cut = data.draw(st.integers(4, len(raw)))
    whole = [bound for bound in bounds[1:].tolist() if bound - 8 <= cut]
    assert locate_strings(raw[:cut], 4, len(strings)).tolist() == [12, *whole]


NUMBER = struct.pack("<I", 1)
REFUSED: dict[str, tuple[bytes, type[FormatError], str]] = {
    "only_magic": (b"GGUF", TruncatedFile, "version (before byte 4) is '4 bytes long', but the file ends here"),
    "other_magic": (b"GGML" + bytes(40), UnsupportedFormat, "magic (before byte 4) is b'GGML'"),
    "version_1": (header(0, 0, 1), UnsupportedFormat, "version (before byte 8) is 1, but versions 2 and 3 are read"),
    "version_9": (header(0, 0, 9), UnsupportedFormat, "version (before byte 8) is 9, but versions 2 and 3 are read"),
    "big_endian": (
        b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        UnsupportedFormat,
        "byte order (before byte 8) is 'big-endian (version 3)', but only little-endian files are read",
    ),
    "no_counts": (b"GGUF\3\0\0\0", TruncatedFile, "number of tensors (before byte 8)"),
    "more_tensors_than_bytes": (header(9, 0), TruncatedFile, "number of tensors (before byte 16) is 9"),
    "tensors_without_measure": (header(2**63, 0), FormatError, f"is {2**63}, but at most 65536 are read"),
    "more_keys_than_bytes": (header(0, 3), TruncatedFile, "number of keys (before byte 24) is 3"),
    "keys_without_measure": (header(0, 2**64 - 1), FormatError, "but at most 65536 are read"),
    "key_length": (
        gguf([struct.pack("<Q", 2**63) + bytes(20)]),
        FormatError,
        f"length of name of key 0 (before byte 32) is {2**63}, but at most 1024 bytes are read",
    ),
    "key_not_utf8": (
        gguf([key(b"\xff\xfe", UINT32, NUMBER)]),
        FormatError,
        "name of key 0 (before byte 34) is b'\\xff\\xfe'",
    ),
    "key_empty": (gguf([key("", UINT32, NUMBER)] * 2), FormatError, "is '', but a name is not empty"),
    "key_twice": (
        gguf([key("a", UINT32, NUMBER)] * 2),
        FormatError,
        "name of key 1 (before byte 50) is 'a', but no two keys",
    ),
    "value_type": (gguf([key("a", 13, NUMBER)]), UnsupportedFormat, "type of 'a' (before byte 37) is 13"),
    "value_cut": (
        gguf([key("a", STRING, struct.pack("<Q", 500))]),
        TruncatedFile,
        "value of 'a' (before byte 45) is '500 bytes long'",
    ),
    "value_not_utf8": (
        gguf([key("a", STRING, text(b"\xc3("))]),
        FormatError,
        "value of 'a' (before byte 47) is b'\\xc3('",
    ),
    "bool_2": (
        gguf([key("a", BOOL, b"\2" + bytes(8))]),
        FormatError,
        "value of 'a' (before byte 38) is 2, but a bool is 0 or 1",
    ),
    "array_longer_than_file": (
        gguf([key("a", ARRAY, array(UINT32, 1000, NUMBER))]),
        TruncatedFile,
        "length of 'a' (before byte 49) is 1000",
    ),
    "array_without_measure": (
        gguf([key("a", ARRAY, array(UINT32, 2**62, NUMBER))]),
        FormatError,
        f"length of 'a' (before byte 49) is {2**62}, but at most 16777216 are read",
    ),
    "array_of_arrays": (
        gguf([key("a", ARRAY, array(ARRAY, 1, array(UINT32, 1, NUMBER)))]),
        UnsupportedFormat,
        "element type of 'a' (before byte 41) is 'array', but arrays of arrays are not read",
    ),
    "array_of_unknown": (gguf([key("a", ARRAY, array(99, 1, NUMBER))]), UnsupportedFormat, "element type of 'a'"),
    "array_string_too_long": (
        gguf([key("a", ARRAY, array(STRING, 2, text("ok") + struct.pack("<Q", 2**32)))]),
        FormatError,
        f"length of string 1 of 'a' (before byte 67) is {2**32}, but at most 65535 bytes are read",
    ),
    "array_string_cut": (
        gguf([key("a", ARRAY, array(STRING, 1, struct.pack("<Q", 60_000)))]),
        TruncatedFile,
        "string 0 of 'a' (before byte 57) is '60000 bytes long'",
    ),
    "array_string_not_utf8": (
        gguf([key("a", ARRAY, array(STRING, 3, text("é") + text(b"\xc3") + text(b"\xa9")))]),
        FormatError,
        "string 1 of 'a' (before byte 77) is b'\\xc3', but a string is UTF-8",
    ),
    "alignment_3": (
        gguf([key("general.alignment", UINT32, struct.pack("<I", 24))]),
        FormatError,
        "general.alignment is 24, but it is a power of two from 8 to 1048576",
    ),
    "alignment_0": (gguf([key("general.alignment", UINT32, bytes(4))]), FormatError, "is 0, but it is a power of two"),
    "alignment_of_other_type": (
        gguf([key("general.alignment", STRING, text("32"))]),
        FormatError,
        "type of 'general.alignment' is 'STRING', but it is UINT32",
    ),
    "tensor_twice": (gguf(tensors=[tensor(), tensor(offset=32)], data=bytes(64)), FormatError, "no two tensors"),
    "tensor_nameless": (gguf(tensors=[tensor("")], data=bytes(32)), FormatError, "name of tensor 0"),
    "no_dimensions": (gguf(tensors=[tensor(shape=())], data=bytes(64)), FormatError, "is 0, but it is 1 to 4"),
    "five_dimensions": (gguf(tensors=[tensor(shape=[1] * 5)], data=bytes(64)), FormatError, "is 5, but it is 1 to 4"),
    "dimension_0": (
        gguf(tensors=[tensor(shape=(4, 0))], data=bytes(64)),
        FormatError,
        "dimension 1 of tensor 't' (before byte 53) is 0, but a dimension is at least 1",
    ),
    "type_unknown": (
        gguf(tensors=[tensor(type_id=77)], data=bytes(64)),
        UnsupportedFormat,
        "type of tensor 't' (before byte 57) is 77",
    ),
    "type_removed": (
        gguf(tensors=[tensor(type_id=31)], data=bytes(64)),
        UnsupportedFormat,
        "is 'Q4_0_4_4 (31)', but GGML has removed this type",
    ),
    "row_no_whole_blocks": (
        gguf(tensors=[tensor(shape=(100,), type_id=12)], data=bytes(144)),
        FormatError,
        "row length of tensor 't' (before byte 49) is 100, but a row of Q4_K is a multiple of 256",
    ),
    "size_overflows_64_bits": (
        gguf(tensors=[tensor(shape=(2**32, 2**31, 2))], data=bytes(64)),
        TruncatedFile,
        f"end of tensor 't' is {2**66}, but only 64 bytes of tensor data are there",
    ),
    "data_cut": (gguf(tensors=[tensor()], data=bytes(31)), TruncatedFile, "end of tensor 't' is 32, but only 31 bytes"),
    "data_missing": (gguf(tensors=[tensor()])[:-5], TruncatedFile, "end of tensor 't' is 32, but only 0 bytes"),
    "misaligned": (
        gguf(tensors=[tensor(offset=8)], data=bytes(64)),
        FormatError,
        "offset of tensor 't' is 8, but it is a multiple",
    ),
    "overlap": (
        gguf(tensors=[tensor("a", (64,)), tensor("b", offset=32)], data=bytes(256)),
        FormatError,
        "offset of tensor 'b' is 32, but that overlaps the tensor before it: 256 is the next free byte",
    ),
    "same_place": (
        gguf(tensors=[tensor("a"), tensor("b")], data=bytes(64)),
        FormatError,
        "offset of tensor 'b' is 0, but that overlaps",
    ),
    "hole": (
        gguf(tensors=[tensor("a"), tensor("b", offset=96)], data=bytes(256)),
        FormatError,
        "offset of tensor 'b' is 96, but that leaves a hole after the data before it: 32 is the next free byte",
    ),
    "offset_beyond": (
        gguf(tensors=[tensor(offset=2**63)], data=bytes(64)),
        FormatError,
        f"offset of tensor 't' is {2**63}",
    ),
    "trailing_bytes": (
        gguf(tensors=[tensor()], data=bytes(65)),
        FormatError,
        "size of the tensor data is 65, but its tensors take 32 bytes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_lies_is_refused_with_field_value_and_rule(case: str, tmp_path: Path) -> None:
    raw, kind, message = REFUSED[case]
    error = refusal(tmp_path, raw)
    assert type(error) is kind
    assert error.path == tmp_path / "file.gguf"
    assert message in error.message


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    keys = [key("a", STRING, text("word")), key("b", ARRAY, array(STRING, 2, text("x") + text("yy")))]
    raw = gguf(keys, [tensor("t", (32,), 8)], bytes(34))
    assert opened(tmp_path, raw).tensors.keys() == {"t"}
    for size in range(len(raw)):
        assert isinstance(refusal(tmp_path, raw[:size]), TruncatedFile), size


def test_a_lying_size_costs_no_memory(tmp_path: Path) -> None:
    """Counts that would ask for gigabytes are refused before anything of their size is made."""
    lies = [header(65_536, 65_536), gguf([key("a", ARRAY, array(STRING, 1 << 24, b""))])]
    tracemalloc.start()
    for raw in lies:
        assert isinstance(refusal(tmp_path, raw), TruncatedFile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_typed_metadata_keeps_the_types_of_the_file(tmp_path: Path) -> None:
    keys = [key("a", 10, struct.pack("<Q", 7)), key("b", ARRAY, array(1, 2, b"\xff\x01"))]
    checkpoint = opened(tmp_path, gguf(keys))
    assert dict(checkpoint.typed_metadata) == {"a": Typed(ValueType.UINT64, 7), "b": Typed(ValueType.INT8, [-1, 1])}
