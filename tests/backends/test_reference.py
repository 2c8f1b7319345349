"""The reference backend against formulas written out with loops, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from camelid.backends.base import AttentionSpec, Batch, CacheType, RopePairs, Tensor
from camelid.backends.reference import ReferenceBackend
from camelid.backends.reference.ops import ReferenceOps, rotate
from camelid.backends.reference.pages import Pages
from camelid.formats.blocks import BlockType, decode, encode

OPS = ReferenceOps(np.dtype(np.float64), None, None)
RNG = np.random.default_rng(0)


def attention(
    pairs: RopePairs = RopePairs.INTERLEAVED, *, num_rotated: int = 6, amplitude: float = 1.0
) -> AttentionSpec:
    return AttentionSpec(
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=6,
        inverse_frequencies=100.0 ** (-np.arange(0, num_rotated, 2) / num_rotated),
        rope_pairs=pairs,
        softmax_scale=6**-0.5,
        rope_amplitude=amplitude,
    )


def tensor(block_type: BlockType, num_rows: int = 9, num_columns: int = 256) -> Tensor:
    values = RNG.normal(size=(num_rows, num_columns)).astype(np.float32)
    return Tensor("weight", (num_rows, num_columns), block_type, encode(values, block_type))


@pytest.mark.parametrize("block_type", [BlockType.F32, BlockType.BF16, BlockType.Q8_0, BlockType.Q4_K, BlockType.Q6_K])
def test_linear_multiplies_by_the_dequantized_weights_and_adds_the_bias(block_type: BlockType) -> None:
    x, first, second, bias = RNG.normal(size=(3, 256)), tensor(block_type), tensor(block_type, 5), RNG.normal(size=5)

    outputs = OPS.linear(x, [first, second], [None, bias])

    for output, weight, added in ((outputs[0], first, np.zeros(9)), (outputs[1], second, bias)):
        rows = decode(weight.rows, block_type)
        expected = [
            [
                math.fsum(float(a) * float(b) for a, b in zip(xs, row, strict=True)) + plus
                for row, plus in zip(rows, added, strict=True)
            ]
            for xs in x
        ]
        np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)


def test_embed_takes_rows_and_logits_takes_wanted_rows() -> None:
    table = tensor(BlockType.Q8_0)
    rows = decode(table.rows, BlockType.Q8_0).astype(np.float64)
    x = RNG.normal(size=(4, 256))

    np.testing.assert_array_equal(OPS.embed(np.array([8, 0, 8], np.int32), table), rows[[8, 0, 8]])
    np.testing.assert_allclose(OPS.logits(x, table, np.array([1, 3], np.int32)), x[[1, 3]] @ rows.T, rtol=1e-12)


def test_norm_and_gate_follow_their_formulas() -> None:
    x, delta, weight = RNG.normal(size=(2, 5)), RNG.normal(size=(2, 5)), RNG.normal(size=5)

    total, normed = OPS.add_norm(x, delta, weight, 1e-3)

    np.testing.assert_allclose(total, x + delta, rtol=1e-15)
    for row, values in zip(normed, x + delta, strict=True):
        scale = 1 / math.sqrt(sum(value * value for value in values) / 5 + 1e-3)
        np.testing.assert_allclose(
            row, [value * scale * w for value, w in zip(values, weight, strict=True)], rtol=1e-13
        )
    z = np.array([[-1000.0, -2.0, 0.0, 3.0]])
    up = np.array([[5.0, 2.0, 7.0, -1.0]])
    np.testing.assert_allclose(OPS.gate(z, up), [[0.0, -4 / (1 + math.e**2), 0.0, -3 / (1 + math.e**-3)]], rtol=1e-14)


@pytest.mark.parametrize("pairs", RopePairs)
@pytest.mark.parametrize("num_rotated", [6, 4])
def test_rotation_turns_each_pair_and_leaves_the_rest(pairs: RopePairs, num_rotated: int) -> None:
    spec = attention(pairs, num_rotated=num_rotated, amplitude=1.5)
    heads = RNG.normal(size=(2, 3, 6))

    rotated = rotate(heads, np.array([0, 77], np.int32), spec)

    expected = heads.copy()
    for token, position in enumerate((0, 77)):
        for pair in range(num_rotated // 2):
            first, second = (
                (2 * pair, 2 * pair + 1) if pairs is RopePairs.INTERLEAVED else (pair, pair + num_rotated // 2)
            )
            turn = 1.5 * np.exp(1j * position * spec.inverse_frequencies[pair])
            for head in range(3):
                turned = complex(heads[token, head, first], heads[token, head, second]) * turn
                expected[token, head, first], expected[token, head, second] = turned.real, turned.imag
    np.testing.assert_allclose(rotated, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pairs", RopePairs)
def test_attend_equals_loops_over_every_query_head_and_key(pairs: RopePairs) -> None:
    spec = attention(pairs)
    lengths, tables = (40, 5), ([3, 0], [1, 0])
    pages = Pages(spec, np.float64, CacheType.F32, 4)
    ops = ReferenceOps(np.dtype(np.float64), spec, pages)
    q, k, v = RNG.normal(size=(45, 24)), RNG.normal(size=(45, 12)), RNG.normal(size=(45, 12))
    batch = Batch(
        ids=np.zeros(45, np.int32),
        positions=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        row_starts=np.array([0, 40, 45], np.int32),
        page_table=np.array(tables, np.int32),
        wanted=np.array([44], np.int32),
    )

    output = ops.attend(q, k, v, 1, batch).reshape(45, 4, 6)

    turned_q = rotate(q.reshape(45, 4, 6), batch.positions, spec)
    turned_k = rotate(k.reshape(45, 2, 6), batch.positions, spec)
    for start, length in ((0, 40), (40, 5)):
        for token in range(start, start + length):
            for head in range(4):
                scores = [
                    turned_q[token, head] @ turned_k[key, head // 2] / math.sqrt(6) for key in range(start, token + 1)
                ]
                weights = np.exp(np.array(scores) - max(scores))
                values = v.reshape(45, 2, 6)[start : token + 1, head // 2]
                np.testing.assert_allclose(
                    output[token, head], weights @ values / weights.sum(), rtol=1e-11, atol=1e-12
                )


def test_page_copies_read_all_sources_before_they_write() -> None:
    spec = attention()
    pages = Pages(spec, np.float64, CacheType.F32, 3)
    for page in range(3):
        filled = np.full((32, 2, 6), float(page))
        pages.write(0, np.array([page], np.int32), np.arange(32, dtype=np.int32), filled, -filled)

    pages.copy(np.array([[0, 1], [1, 2]], np.int32))

    keys, values = pages.read(0, np.array([0, 1, 2], np.int32), 96)
    assert [keys[slot, 0, 0] for slot in (0, 32, 64)] == [0.0, 0.0, 1.0]
    assert [values[slot, 0, 0] for slot in (0, 32, 64)] == [0.0, 0.0, -1.0]


def test_page_bytes_follow_from_the_cache_type() -> None:
    assert ReferenceBackend().page_bytes(attention(), CacheType.F16) == 2 * 2 * 32 * 2 * 6 * 2
    assert ReferenceBackend().page_bytes(attention(), CacheType.F32) == 2 * 2 * 32 * 2 * 6 * 8
    assert ReferenceBackend(np.float32).page_bytes(attention(), CacheType.F32) == 2 * 2 * 32 * 2 * 6 * 4
    assert ReferenceBackend().page_bytes(attention(), CacheType.I8) == 2 * 2 * 32 * 2 * (6 + 2)


def test_memory_is_that_of_the_machine() -> None:
    memory = ReferenceBackend().memory()

    assert 0 < memory.available_bytes <= memory.total_bytes
