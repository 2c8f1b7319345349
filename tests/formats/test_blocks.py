"""Blocks decode to the bits of the `gguf` package, and encode to its bytes or with less loss."""

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from numpy.typing import NDArray

from camelid.errors import InvalidRequest, UnsupportedModel
from camelid.formats.block_decoders import unpack_six_bits
from camelid.formats.block_encoders import pack_six_bits
from camelid.formats.blocks import BlockType, decode, encode, row_bytes

DECODABLE = [block_type for block_type in BlockType if block_type.is_decodable]
ENCODABLE = [block_type for block_type in BlockType if block_type.is_encodable]

# Relative root mean square error on normally distributed weights. For the K types: what ggml's own quantizers lose
# without calibration data (quantize_row_*_ref: 0.0713, 0.0361 and 0.0178) and one percent more.
WORST_LOSS = {
    BlockType.F32: 0.0,
    BlockType.F16: 0.00022,
    BlockType.BF16: 0.0017,
    BlockType.Q8_0: 0.0055,
    BlockType.Q4_0: 0.087,
    BlockType.Q4_K: 0.0720,
    BlockType.Q5_K: 0.0365,
    BlockType.Q6_K: 0.0179,
}


def gguf_type(block_type: BlockType) -> GGMLQuantizationType:
    return GGMLQuantizationType[block_type.name]


def normal(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * 0.02).astype(np.float32)


def test_table_has_every_type_of_the_gguf_package_with_its_id_and_sizes() -> None:
    ours = {t.name: (t.ggml_id, (t.weights_per_block, t.bytes_per_block)) for t in BlockType}
    theirs = {t.name: (t.value, GGML_QUANT_SIZES[t]) for t in GGMLQuantizationType}
    theirs["Q8_1"] = (
        9,
        (32, 36),
    )  # the package still has float32 scales; ggml made them float16
    assert ours == theirs


@pytest.mark.parametrize("block_type", DECODABLE, ids=lambda t: t.name)
def test_any_bytes_decode_to_the_bits_of_the_gguf_package(block_type: BlockType) -> None:
    """Random bytes reach every code, and scales that are NaN, infinite or subnormal."""
    rows = np.random.default_rng(1).integers(0, 256, (48, row_bytes(block_type, 4096)), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = quants.dequantize(rows, gguf_type(block_type))
    np.testing.assert_array_equal(decode(rows, block_type).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("block_type", DECODABLE, ids=lambda t: t.name)
def test_rows_larger_than_a_slab_decode_like_the_rows_alone(block_type: BlockType) -> None:
    rows = np.random.default_rng(2).integers(0, 64, (3, row_bytes(block_type, 200 * 1024)), dtype=np.uint8)
    alone = np.concatenate([decode(row[None], block_type) for row in rows])
    np.testing.assert_array_equal(decode(rows, block_type).view(np.uint32), alone.view(np.uint32))


@pytest.mark.parametrize("block_type", DECODABLE, ids=lambda t: t.name)
def test_no_rows_decode_to_no_rows(block_type: BlockType) -> None:
    assert decode(np.empty((0, row_bytes(block_type, 512)), np.uint8), block_type).shape == (0, 512)


@pytest.mark.parametrize("block_type", [t for t in ENCODABLE if not t.name.endswith("_K")], ids=lambda t: t.name)
@pytest.mark.parametrize("spread", [1e-30, 1e-6, 0.02, 3.0, 100.0])
def test_simple_types_encode_to_the_bytes_of_the_gguf_package(block_type: BlockType, spread: float) -> None:
    values = normal(8, 4096, seed=3) / np.float32(0.02) * np.float32(spread)
    with np.errstate(all="ignore"):
        expected = quants.quantize(values, gguf_type(block_type)).view(np.uint8).reshape(8, -1)
    np.testing.assert_array_equal(encode(values, block_type), expected)


def test_bf16_keeps_nan_and_infinity() -> None:
    values = np.array([[np.nan, -np.nan, np.inf, -np.inf, 3.4e38, -0.0]], dtype=np.float32)
    expected = quants.quantize(values, GGMLQuantizationType.BF16).view(np.uint8)
    np.testing.assert_array_equal(encode(values, BlockType.BF16), expected)


@pytest.mark.parametrize("block_type", ENCODABLE, ids=lambda t: t.name)
def test_encoding_loses_no_more_than_ggml_does(block_type: BlockType) -> None:
    values = normal(64, 4096)
    error = decode(encode(values, block_type), block_type) - values
    assert np.sqrt(np.mean(error**2) / np.mean(values**2)) <= WORST_LOSS[block_type]


@pytest.mark.parametrize("block_type", ENCODABLE, ids=lambda t: t.name)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.37, -65504.0, 1e-3])
def test_a_constant_row_survives(block_type: BlockType, value: float) -> None:
    values = np.full((2, 512), value, dtype=np.float32)
    np.testing.assert_allclose(decode(encode(values, block_type), block_type), values, rtol=0.02)


@pytest.mark.parametrize("block_type", ENCODABLE, ids=lambda t: t.name)
def test_one_large_weight_among_zeros_survives(block_type: BlockType) -> None:
    values = np.zeros((1, 256), dtype=np.float32)
    values[0, 77] = -3.5
    np.testing.assert_allclose(decode(encode(values, block_type), block_type), values, rtol=0.01, atol=3e-3)


@pytest.mark.parametrize("block_type", ENCODABLE, ids=lambda t: t.name)
def test_encoding_does_not_depend_on_the_rows_beside(block_type: BlockType) -> None:
    values = normal(5, 80 * 1024, seed=4)
    alone = np.concatenate([encode(row[None], block_type) for row in values])
    np.testing.assert_array_equal(encode(values, block_type), alone)


def test_six_bit_scales_pack_and_unpack_to_themselves() -> None:
    scales, minimums = np.random.default_rng(5).integers(0, 64, (2, 1000, 8), dtype=np.uint8)
    again = unpack_six_bits(pack_six_bits(scales, minimums))
    np.testing.assert_array_equal(again, (scales, minimums))


@pytest.mark.parametrize("block_type", [t for t in ENCODABLE if t.weights_per_block > 1], ids=lambda t: t.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e6])
def test_a_value_that_would_ruin_its_block_is_refused(block_type: BlockType, bad: float) -> None:
    values = normal(2, 512)
    values[1, 300] = bad
    with pytest.raises(InvalidRequest, match=f"cannot be written as {block_type.name}"):
        encode(values, block_type)


def test_overflow_of_f16_is_refused_but_infinity_is_kept() -> None:
    with pytest.raises(InvalidRequest, match=r"the value 100000\.0 cannot be written as F16"):
        encode(np.array([[1e5]], dtype=np.float32), BlockType.F16)
    infinite = np.array([[np.inf, -np.inf]], dtype=np.float32)
    np.testing.assert_array_equal(decode(encode(infinite, BlockType.F16), BlockType.F16), infinite)


def test_a_row_that_is_no_whole_number_of_blocks_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="a row of 100 weights cannot be Q4_K, whose blocks hold 256"):
        row_bytes(BlockType.Q4_K, 100)


@pytest.mark.parametrize("block_type", [t for t in BlockType if not t.is_decodable], ids=lambda t: t.name)
def test_types_that_are_not_decoded_are_refused_by_name(block_type: BlockType) -> None:
    with pytest.raises(UnsupportedModel, match=f"weights of type {block_type.name} cannot be decoded"):
        decode(np.zeros((1, block_type.bytes_per_block), np.uint8), block_type)


def test_types_that_are_not_encoded_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="weights of type Q2_K cannot be encoded"):
        encode(normal(1, 256), BlockType.Q2_K)
