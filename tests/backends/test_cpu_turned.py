"""Weights that lie turned give the bits that weights as in the file give; what cannot be turned is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tests.backends.test_cpu_arithmetic import (
    ALL_TYPES,
    FLOATS,
    HALVES,
    Floats,
    assert_same_bits,
    columns_of,
    isa,
    linear,
    normal,
    processor,
    random_rows,
)

from camelid.backends.cpu._native import Processor, Weight
from camelid.formats.blocks import BlockType

__all__ = ["isa", "processor"]

COLUMNS = 512
ROWS = 53  # three whole sixteens, and five rows that stay as they are


def turned(kind: BlockType, num_rows: int = ROWS, num_columns: int = COLUMNS, step: int = 16) -> Weight:
    rows = random_rows(kind, num_rows, num_columns)
    weight, out = Weight(rows, kind.ggml_id, num_columns), np.empty_like(rows)
    for begin in range(0, num_rows, step):
        weight.turn(begin, out[begin : begin + step])
    assert sorted(out.tobytes()) == sorted(rows.tobytes())
    return Weight(out, kind.ggml_id, num_columns, is_turned=True)


def product(processor: Processor, x: Floats, weight: Weight, num_rows: int = ROWS) -> Floats:
    out = np.full((len(x), num_rows), np.nan, np.float32)
    processor.linear(x, [weight], (), [out])
    return out


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_products_of_turned_weights_have_the_same_bits(processor: Processor, kind: BlockType) -> None:
    weight, rows = turned(kind), random_rows(kind, ROWS, COLUMNS)
    for num_tokens in (1, 2, 3, 7, 19):
        x = normal(num_tokens, COLUMNS)
        assert_same_bits(product(processor, x, weight), linear(processor, x, rows, kind))


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_embeddings_of_turned_weights_have_the_same_bits(processor: Processor, kind: BlockType) -> None:
    ids = np.array([0, 15, 16, 47, 48, 52], np.int32)
    found, expected = np.empty((2, len(ids), COLUMNS), np.float32)
    processor.embed(ids, turned(kind), found)
    processor.embed(ids, Weight(random_rows(kind, ROWS, COLUMNS), kind.ggml_id, COLUMNS), expected)
    assert_same_bits(found, expected)


def test_how_a_matrix_is_cut_while_it_is_turned_does_not_show() -> None:
    rows = random_rows(BlockType.Q6_K, ROWS, COLUMNS)
    weight, whole, pieces = Weight(rows, BlockType.Q6_K.ggml_id, COLUMNS), np.empty_like(rows), np.empty_like(rows)
    weight.turn(0, whole)
    for begin, end in ((0, 32), (32, ROWS)):
        weight.turn(begin, pieces[begin:end])
    np.testing.assert_array_equal(whole, pieces)


@pytest.mark.parametrize("kind", ALL_TYPES, ids=lambda kind: kind.name)
def test_only_quantized_rows_of_whole_slices_can_be_turned(kind: BlockType) -> None:
    whole, part = 256 * kind.weights_per_block, columns_of(kind, 3)
    assert Weight(random_rows(kind, 16, whole), kind.ggml_id, whole).can_turn == (kind not in FLOATS)
    rows = random_rows(kind, 16, part)
    if kind in FLOATS or part % 256:
        with pytest.raises(ValueError, match="whole slices"):
            Weight(rows, kind.ggml_id, part, is_turned=True)
        with pytest.raises(ValueError, match="can be turned"):
            Weight(rows, kind.ggml_id, part).turn(0, np.empty_like(rows))


@pytest.mark.parametrize(("begin", "num_rows"), [(8, 16), (0, 8), (48, 16), (-16, 16), (64, 16)])
def test_rows_are_turned_in_whole_sixteens(begin: int, num_rows: int) -> None:
    rows = random_rows(BlockType.Q4_K, ROWS, COLUMNS)
    with pytest.raises(ValueError, match="whole sixteens"):
        Weight(rows, BlockType.Q4_K.ggml_id, COLUMNS).turn(begin, np.empty((num_rows, rows.shape[1]), np.uint8))
