"""The cpu backend's kernels against the exact emulation: every block type on every instruction set, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.backends import emulation

from camelid.backends.cpu._native import Cache, Processor, Step, Weight, available_isas, built_isas
from camelid.formats.blocks import BlockType, encode

Floats = NDArray[np.float32]

HALVES = {  # where a block keeps its float16 numbers; all its other bytes may be anything
    BlockType.Q4_0: (0,),
    BlockType.Q4_1: (0, 2),
    BlockType.Q5_0: (0,),
    BlockType.Q5_1: (0, 2),
    BlockType.Q8_0: (0,),
    BlockType.IQ4_NL: (0,),
    BlockType.Q2_K: (80, 82),
    BlockType.Q3_K: (108,),
    BlockType.Q4_K: (0, 2),
    BlockType.Q5_K: (0, 2),
    BlockType.Q6_K: (208,),
    BlockType.IQ4_XS: (0,),
}
FLOATS = (BlockType.F32, BlockType.F16, BlockType.BF16)
ALL_TYPES = (*FLOATS, *HALVES)
TOKENS = tuple(range(1, 34))

every_type = pytest.mark.parametrize("kind", ALL_TYPES, ids=lambda kind: kind.name)


@pytest.fixture(params=built_isas())
def isa(request: pytest.FixtureRequest) -> str:
    if request.param not in available_isas():
        pytest.skip(f"this processor does not run {request.param}")
    return str(request.param)


@pytest.fixture
def processor(isa: str) -> Processor:
    return Processor(2, isa)


def random_rows(kind: BlockType, num_rows: int, num_columns: int, fill: int | None = None) -> NDArray[np.uint8]:
    """Return rows of random bytes, or of one byte repeated, with scales of both signs."""
    rng = np.random.default_rng([kind.ggml_id, num_rows, num_columns])
    if kind in FLOATS:
        return encode(rng.standard_normal((num_rows, num_columns), dtype=np.float32), kind)
    num_blocks = num_rows * num_columns // kind.weights_per_block
    blocks = rng.integers(0, 256, (num_blocks, kind.bytes_per_block), dtype=np.uint8)
    if fill is not None:
        blocks[:] = fill
    for at in HALVES[kind]:
        scales = (rng.uniform(0.001, 0.02, num_blocks) * rng.choice([-1.0, 1.0], num_blocks)).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(num_rows, -1)


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def linear(
    processor: Processor, x: Floats, rows: NDArray[np.uint8], kind: BlockType, bias: Floats | None = None
) -> Floats:
    out = np.full((len(x), len(rows)), np.nan, np.float32)
    processor.linear(x, [Weight(rows, kind.ggml_id, x.shape[1])], [bias], [out])
    return out


def assert_same_bits(found: Floats, expected: Floats) -> None:
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def columns_of(kind: BlockType, num_blocks: int) -> int:
    return {1: 37 * num_blocks, 32: 32 * num_blocks, 256: 256 * num_blocks}[kind.weights_per_block]


@every_type
@pytest.mark.parametrize("num_blocks", [1, 3, 9, 19])
def test_products_are_the_emulated_ones(processor: Processor, kind: BlockType, num_blocks: int) -> None:
    x, rows, bias = (
        normal(7, columns_of(kind, num_blocks)),
        random_rows(kind, 35, columns_of(kind, num_blocks)),
        normal(35),
    )

    expected = emulation.linear(x, rows, kind, bias)

    assert_same_bits(linear(processor, x, rows, kind, bias), expected)
    for token in range(3):
        alone = linear(processor, x[token : token + 1], rows, kind, bias)
        assert_same_bits(alone, expected[token : token + 1])


@every_type
@pytest.mark.parametrize("num_rows", [1, 15, 16, 33])
def test_a_row_of_a_product_does_not_depend_on_how_many_there_are(
    processor: Processor, kind: BlockType, num_rows: int
) -> None:
    x, rows = normal(TOKENS[-1], columns_of(kind, 5)), random_rows(kind, num_rows, columns_of(kind, 5))
    alone = np.concatenate([linear(processor, row[None], rows, kind) for row in x])

    for num_tokens in TOKENS:
        assert_same_bits(linear(processor, x[:num_tokens], rows, kind), alone[:num_tokens])


@every_type
@pytest.mark.parametrize("fill", [0x00, 0x0F, 0x7F, 0x80, 0xF0, 0xFF])
def test_extreme_codes_lose_nothing(processor: Processor, kind: BlockType, fill: int) -> None:
    signs = np.where(normal(4, columns_of(kind, 9)) < 0, -1, 1).astype(np.float32)
    x = np.concatenate([np.ones_like(signs), -np.ones_like(signs), signs])
    rows = random_rows(kind, 5, x.shape[1], fill)

    expected = emulation.linear(x, rows, kind)

    assert_same_bits(linear(processor, x, rows, kind), expected)
    assert_same_bits(linear(processor, x[:1], rows, kind), expected[:1])


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_rows_of_zeros_and_of_wide_range_are_rounded_as_emulated(processor: Processor, kind: BlockType) -> None:
    x = normal(6, columns_of(kind, 4)) * 10.0 ** np.arange(-3, 3)[:, None]
    x[0] = 0
    x[1, ::2] *= np.float32(1e-30)
    x[2] = np.round(normal(1, x.shape[1])) * np.float32(0.5)  # many ties
    x[3] = np.float32(1e-44)  # subnormal

    rows = random_rows(kind, 8, x.shape[1])

    with np.errstate(all="ignore"):
        expected = emulation.linear(x.astype(np.float32), rows, kind)
    assert_same_bits(linear(processor, x.astype(np.float32), rows, kind)[:3], expected[:3])
    assert np.isnan(linear(processor, np.full_like(x, np.nan, np.float32), rows, kind)).all()


@every_type
def test_weights_at_odd_addresses_are_read(processor: Processor, kind: BlockType) -> None:
    rows, x = random_rows(kind, 20, columns_of(kind, 3)), normal(9, columns_of(kind, 3))
    memory = np.empty(rows.size + 1, np.uint8)
    memory[1:] = rows.reshape(-1)

    assert_same_bits(linear(processor, x, memory[1:].reshape(rows.shape), kind), linear(processor, x, rows, kind))


@every_type
def test_one_call_for_several_weights_is_several_calls(processor: Processor, kind: BlockType) -> None:
    x = normal(3, 768)
    placed = [
        (each, random_rows(each, num_rows, 768))
        for each, num_rows in ((kind, 40), (BlockType.Q6_K, 3), (kind, 7), (BlockType.Q8_0, 33))
    ]
    outs = [np.empty((3, len(rows)), np.float32) for _, rows in placed]

    processor.linear(x, [Weight(rows, each.ggml_id, 768) for each, rows in placed], (), outs)

    for (each, rows), out in zip(placed, outs, strict=True):
        assert_same_bits(out, linear(processor, x, rows, each))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 640])
def test_norm_and_gate_are_the_emulated_ones(processor: Processor, width: int) -> None:
    x, weight, up = normal(5, width) * 20, normal(width, seed=1), normal(5, width, seed=2)
    normed = np.empty_like(x)
    processor.norm(x, None, weight, 1e-5, normed)
    gated = x.copy()
    processor.gate(gated, up)

    assert_same_bits(normed, emulation.norm(x, weight, 1e-5))
    assert_same_bits(gated, emulation.gate(x, up))


def test_exp_is_within_two_units_in_the_last_place(processor: Processor) -> None:
    x = np.linspace(-86.5, 88.7, 200_001, dtype=np.float32)
    found = emulation.exp(x).astype(np.float64)  # held against the kernels by the gate above
    exact = np.exp(x.astype(np.float64))

    assert np.max(np.abs(found - exact) / np.spacing(exact.astype(np.float32))) < 2
    assert emulation.exp(np.array([89.5, np.inf, -90.0, -np.inf], np.float32)).tolist() == [np.inf, np.inf, 0.0, 0.0]


# ── attention ──


def run_attention(
    processor: Processor, length: int, *, num_heads: int, num_kv_heads: int, head_dim: int, bits: int, chunk: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return what attention gives for a sequence fed in chunks, and its q, k and v.

    Nothing is rotated; unwritten slots are NaN.
    """
    q, k, v = (
        normal(length, heads * head_dim, seed=i) for i, heads in enumerate((num_heads, num_kv_heads, num_kv_heads))
    )
    num_pages = -(-length // 32)
    cache = Cache(1, num_pages, num_kv_heads, head_dim, bits)
    cache.poison()
    table = np.random.default_rng(1).permutation(num_pages).astype(np.int32)[None]
    out = np.full_like(q, np.nan)
    for first in range(0, length, chunk):
        part = slice(first, min(first + chunk, length))
        positions = np.arange(length, dtype=np.int32)[part]
        step = Step(positions, np.array([0, len(positions)], np.int32), table, num_pages, np.empty(0), 1.0)
        processor.attend(q[part], k[part], v[part], cache, 0, step, num_heads, head_dim**-0.5, True, out[part])
    return out, q, k, v


@pytest.mark.parametrize("bits", [32, 16, 8])
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), [(4, 1, 16), (2, 2, 26), (18, 1, 8)])
def test_attention_is_the_emulated_one(
    processor: Processor, num_heads: int, num_kv_heads: int, head_dim: int, bits: int
) -> None:
    length = 75
    out, q, k, v = run_attention(
        processor, length, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, bits=bits, chunk=40
    )

    if bits == 16:
        k, v = (values.astype(np.float16).astype(np.float32) for values in (k, v))
    keys, values = (array.reshape(length, num_kv_heads, head_dim) for array in (k, v))
    queries = q.reshape(length, num_heads, head_dim)
    for position in (0, 1, 31, 32, 63, 74):
        for head in range(num_heads):
            kv = head // (num_heads // num_kv_heads)
            past = keys[: position + 1, kv], values[: position + 1, kv]
            attend = emulation.attend_codes if bits == 8 else emulation.attend
            expected = attend(queries[position, head], *past, head_dim**-0.5)
            assert_same_bits(out.reshape(queries.shape)[position, head], expected)


def test_attention_over_several_segments_is_the_emulated_one(processor: Processor) -> None:
    length = 2100
    out, q, k, v = run_attention(processor, length, num_heads=2, num_kv_heads=1, head_dim=8, bits=32, chunk=length)

    for position in (1023, 1024, 2047, 2048, 2099):
        expected = emulation.attend(q[position, 8:], k[: position + 1], v[: position + 1], 8**-0.5)
        assert_same_bits(out[position, 8:], expected)


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_attention_does_not_depend_on_chunks_or_threads(isa: str, bits: int) -> None:
    shape = {"num_heads": 6, "num_kv_heads": 2, "head_dim": 24, "bits": bits}
    expected = run_attention(Processor(1, isa), 1100, chunk=1100, **shape)[0]

    for threads, chunk in ((2, 1100), (3, 97), (2, 13)):
        assert_same_bits(run_attention(Processor(threads, isa), 1100, chunk=chunk, **shape)[0], expected)


def test_one_token_at_a_time_attends_like_the_whole_prompt(isa: str) -> None:
    shape = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "bits": 16}
    expected = run_attention(Processor(2, isa), 1100, chunk=1100, **shape)[0]

    assert_same_bits(run_attention(Processor(2, isa), 1100, chunk=1, **shape)[0], expected)


# ── across instruction sets and threads ──


def results(processor: Processor, kind: BlockType) -> list[Floats]:
    """Return what some operations give on inputs that are the same for every processor."""
    x, rows = normal(21, 2560), random_rows(kind, 50, 2560)
    embedded = np.empty((4, 2560), np.float32)
    processor.embed(np.array([3, 49, 0, 3], np.int32), Weight(rows, kind.ggml_id, 2560), embedded)
    return [linear(processor, x, rows, kind), linear(processor, x[:1], rows, kind), embedded]


@every_type
def test_instruction_sets_and_threads_agree(isa: str, kind: BlockType) -> None:
    expected = results(Processor(1, "portable"), kind)

    for threads in (1, 2, 3, 5):
        for one, other in zip(results(Processor(threads, isa), kind), expected, strict=True):
            assert_same_bits(one, other)


@pytest.mark.parametrize("interleaved", [True, False])
def test_instruction_sets_rotate_alike(isa: str, interleaved: bool) -> None:
    def rotated(name: str) -> Floats:
        cache, q = Cache(1, 4, 1, 26, 16), normal(100, 52)
        frequencies = 500_000.0 ** (-np.arange(0, 20, 2) / 20)
        positions = np.arange(100, dtype=np.int32)
        step = Step(positions, np.array([0, 100], np.int32), np.arange(4, dtype=np.int32)[None], 4, frequencies, 1.1)
        out = np.empty_like(q)
        kv = normal(100, 26, seed=1)
        Processor(1, name).attend(q, kv, kv, cache, 0, step, 2, 0.2, interleaved, out)
        return out

    assert_same_bits(rotated(isa), rotated("portable"))


@pytest.mark.parametrize("make", [np.zeros, np.ones], ids=["zeros", "ones"])
def test_float16_keys_round_to_nearest_even(isa: str, make: Callable[[int], Floats]) -> None:
    """One key with weight 1: the output is the value as the cache holds it."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 1 << 15, dtype=np.uint32)
    bits[: 1 << 14] = (bits[: 1 << 14] & 0x8FFFF000) | 0x33000000  # around the smallest halves, and ties
    v = bits.view(np.float32).reshape(-1, 64)
    v = np.where(np.isnan(v) | (np.abs(v) > 65519), np.float32(1), v)
    tokens = len(v)
    starts, table = np.arange(tokens + 1, dtype=np.int32), np.arange(tokens, dtype=np.int32)[:, None]
    step = Step(np.zeros(tokens, np.int32), starts, table, tokens, np.empty(0), 1.0)
    out = np.empty_like(v)
    q = np.broadcast_to(make(64).astype(np.float32), v.shape).copy()
    Processor(2, isa).attend(q, np.zeros_like(v), v, Cache(1, tokens, 1, 64, 16), 0, step, 1, 1.0, True, out)

    np.testing.assert_array_equal(out, v.astype(np.float16).astype(np.float32))
