"""Every operation, on every block type and instruction set that this machine has, against the reference in float64.

Only the contract of `backends/base.py` is used: inputs come in as rows of an F32 table, through `embed`, and results go
out as the "logits" of a model that runs one operation. So a new backend joins by a line in `subjects`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from camelid.backends.base import (
    AttentionSpec,
    Backend,
    Batch,
    CacheType,
    Ops,
    RopePairs,
    Tensor,
)
from camelid.backends.gpu.backend import GpuBackend
from camelid.backends.reference import ReferenceBackend
from camelid.formats.blocks import BlockType, decode, encode

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

# Where a block keeps its float16 numbers; all its other bytes may be anything.
HALVES = {
    BlockType.Q4_0: (0,),
    BlockType.Q4_1: (0, 2),
    BlockType.Q5_0: (0,),
    BlockType.Q5_1: (0, 2),
    BlockType.Q8_0: (0,),
    BlockType.Q2_K: (80, 82),
    BlockType.Q3_K: (108,),
    BlockType.Q4_K: (0, 2),
    BlockType.Q5_K: (0, 2),
    BlockType.Q6_K: (208,),
    BlockType.IQ4_NL: (0,),
    BlockType.IQ4_XS: (0,),
}
FLOATS = (BlockType.F32, BlockType.F16, BlockType.BF16)
ALL_TYPES = (*FLOATS, *HALVES)

ROUNDING = 2e-6  # of sum |x||w|: float32 sums over a few thousand products
QUANTIZED_RMS = 1e-2  # relative error of a product whose input is rounded to 8 bits per block; measured: 0.7 %


def subjects() -> Iterator[Any]:
    """Yield a maker for each backend and instruction set that can run here, and a skipped one for what cannot."""
    yield pytest.param(partial(ReferenceBackend, np.float32), id="reference-float32")
    yield pytest.param(partial(GpuBackend, torch.device("cpu"), torch.float32), id="gpu-twin")
    try:
        from camelid.backends.cpu._native import available_isas
        from camelid.backends.cpu.backend import CpuBackend
    except ImportError as error:
        yield pytest.param(None, id="cpu", marks=pytest.mark.skip(reason=f"the extension is not built: {error}"))
    else:
        yield from (pytest.param(partial(CpuBackend, threads=2, isa=isa), id=f"cpu-{isa}") for isa in available_isas())


@pytest.fixture(params=subjects(), scope="module")
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param()  # type: ignore[no-any-return]


class OneOperation:
    """A model whose logits are what one operation returns for the rows of some F32 tables."""

    def __init__(self, operation: Callable[..., Any], tables: Sequence[Any], num_rows: int) -> None:
        self._operation, self._tables = operation, tables
        self._ids = np.arange(num_rows, dtype=np.int32)

    def forward(self, ops: Ops, batch: Batch) -> Any:
        return self._operation(ops, *(ops.embed(self._ids, table) for table in self._tables))


def compute(backend: Backend, operation: Callable[..., Any], *inputs: Floats, batch: Batch | None = None) -> Doubles:
    """Return what `operation(ops, *inputs)` gives on `backend`."""
    tables = [backend.place(f32_tensor(values)) for values in inputs]
    model = OneOperation(operation, tables, len(inputs[0]))
    return np.array(backend.run(model, batch or batch_of([(0, len(inputs[0]), [0])])), np.float64)


def f32_tensor(values: Floats) -> Tensor:
    return Tensor("input", values.shape, BlockType.F32, np.ascontiguousarray(values).view(np.uint8))


def batch_of(sequences: Sequence[tuple[int, int, Sequence[int]]]) -> Batch:
    """Return a batch whose ids do not matter, of sequences given as (first position, number of tokens, pages)."""
    num_tokens = sum(count for _, count, _ in sequences)
    page_table = np.zeros((len(sequences), max(len(pages) for _, _, pages in sequences)), np.int32)
    for row, (_, _, pages) in enumerate(sequences):
        page_table[row, : len(pages)] = pages
    return Batch(
        ids=np.zeros(num_tokens, np.int32),
        positions=np.concatenate([np.arange(first, first + count) for first, count, _ in sequences]).astype(np.int32),
        row_starts=np.cumsum([0, *(count for _, count, _ in sequences)]).astype(np.int32),
        page_table=page_table,
        wanted=np.arange(num_tokens, dtype=np.int32),
    )


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def random_weight(block_type: BlockType, num_rows: int, num_columns: int, *, fill: int | None = None) -> Tensor:
    """Return a weight of random bytes, so that every code and scale of a block occurs, or of one byte repeated."""
    rng = np.random.default_rng([block_type.ggml_id, num_rows, num_columns])
    if block_type in FLOATS:
        rows = encode(rng.standard_normal((num_rows, num_columns), dtype=np.float32), block_type)
        return Tensor("weight", (num_rows, num_columns), block_type, rows)
    num_blocks = num_rows * num_columns // block_type.weights_per_block
    blocks = rng.integers(0, 256, (num_blocks, block_type.bytes_per_block), dtype=np.uint8)
    if fill is not None:
        blocks[:] = fill
    for offset in HALVES[block_type]:
        scales = rng.uniform(0.001, 0.02, num_blocks) * rng.choice([-1.0, 1.0], num_blocks)
        blocks[:, offset : offset + 2] = scales.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return Tensor("weight", (num_rows, num_columns), block_type, blocks.reshape(num_rows, -1))


def exact_inputs(num_rows: int, num_columns: int) -> Floats:
    """Return whole numbers that reach 127 in every 32 columns: rounding them to 8 bits per block changes nothing."""
    x = np.random.default_rng([num_rows, num_columns]).integers(-127, 128, (num_rows, num_columns))
    x[:, ::32] = np.where(x[:, ::32] < 0, -127, 127)
    return x.astype(np.float32)


def products(x: Floats, weight: Tensor) -> tuple[Doubles, Doubles]:
    """Return x · Wᵀ in float64 with the dequantized weight, and the sums of the products' magnitudes."""
    rows = decode(weight.rows, weight.block_type).astype(np.float64)
    return x.astype(np.float64) @ rows.T, np.abs(x).astype(np.float64) @ np.abs(rows).T


def columns_of(block_type: BlockType) -> int:
    """Return a width that is an odd number of blocks, and, for the float types, no multiple of any vector."""
    return {1: 333, 32: 32 * 11, 256: 256 * 3}[block_type.weights_per_block]


@pytest.mark.parametrize("block_type", ALL_TYPES, ids=lambda kind: kind.name)
class TestProducts:
    """`linear`, `logits` and `embed`, for every block type."""

    @pytest.mark.parametrize("num_tokens", [1, 2, 3, 5, 8, 16, 17, 33])
    def test_a_product_of_exact_inputs_is_exact_but_for_float32_sums(
        self, backend: Backend, block_type: BlockType, num_tokens: int
    ) -> None:
        x = exact_inputs(num_tokens, columns_of(block_type))
        weight = random_weight(block_type, 37, x.shape[1])
        placed = backend.place(weight)

        found = compute(backend, lambda ops, x: ops.linear(x, [placed])[0], x)

        expected, magnitude = products(x, weight)
        assert found.shape == (num_tokens, 37)
        assert np.all(np.abs(found - expected) <= ROUNDING * magnitude)

    @pytest.mark.parametrize("fill", [0x00, 0x7F, 0x80, 0xFF])
    def test_extreme_codes_do_not_overflow(self, backend: Backend, block_type: BlockType, fill: int) -> None:
        signs = np.sign(normal(4, columns_of(block_type)) + 0.3)
        x = np.concatenate([signs * 127, np.full_like(signs, 127), np.full_like(signs, -127)]).astype(np.float32)
        weight = random_weight(block_type, 19, x.shape[1], fill=fill)
        placed = backend.place(weight)

        found = compute(backend, lambda ops, x: ops.linear(x, [placed])[0], x)

        expected, magnitude = products(x, weight)
        assert np.all(np.abs(found - expected) <= ROUNDING * magnitude)

    @pytest.mark.parametrize("num_tokens", [1, 7, 40])
    def test_a_product_of_any_inputs_errs_by_the_rounding_of_its_input(
        self, backend: Backend, block_type: BlockType, num_tokens: int
    ) -> None:
        x = normal(num_tokens, columns_of(block_type))
        weight = random_weight(block_type, 64, x.shape[1])
        placed = backend.place(weight)

        found = compute(backend, lambda ops, x: ops.linear(x, [placed])[0], x)

        expected, magnitude = products(x, weight)
        error = found - expected
        allowed = ROUNDING * magnitude
        if block_type not in FLOATS:
            padded = np.pad(np.abs(x), ((0, 0), (0, -x.shape[1] % 256))).reshape(num_tokens, -1, 256)
            half_step = np.repeat(padded.max(axis=2) / 254, 256, axis=1)[:, : x.shape[1]]
            allowed = allowed + 1.001 * (half_step @ np.abs(decode(weight.rows, block_type)).T)
        assert np.all(np.abs(error) <= allowed)
        if num_tokens == 40:  # fewer tokens are too few for a mean
            assert np.sqrt(np.mean(error**2) / np.mean(expected**2)) <= QUANTIZED_RMS

    def test_several_products_share_an_input_and_add_their_biases(
        self, backend: Backend, block_type: BlockType
    ) -> None:
        x = exact_inputs(3, columns_of(block_type))
        weights = [random_weight(kind, rows, x.shape[1]) for kind, rows in ((block_type, 5), (BlockType.F32, 8))]
        bias = normal(8)
        placed, placed_bias = [backend.place(weight) for weight in weights], backend.place_vector(bias)

        for index, added in ((0, np.zeros(5)), (1, bias)):
            found = compute(backend, lambda ops, x, i=index: ops.linear(x, placed, [None, placed_bias])[i], x)

            expected, magnitude = products(x, weights[index])
            assert np.all(np.abs(found - expected - added) <= ROUNDING * (magnitude + np.abs(added)))

    def test_logits_are_those_of_the_wanted_rows(self, backend: Backend, block_type: BlockType) -> None:
        x = exact_inputs(9, columns_of(block_type))
        head = random_weight(block_type, 131, x.shape[1])
        placed, wanted = backend.place(head), np.array([0, 4, 8], np.int32)

        found = compute(backend, lambda ops, x: ops.logits(x, placed, wanted), x)

        expected, magnitude = products(x[wanted], head)
        assert np.all(np.abs(found - expected) <= ROUNDING * magnitude)

    def test_embed_returns_the_dequantized_rows(self, backend: Backend, block_type: BlockType) -> None:
        table = random_weight(block_type, 21, columns_of(block_type))
        placed, ids = backend.place(table), np.array([20, 0, 7, 7], np.int32)

        found = compute(backend, lambda ops, x: ops.embed(ids, placed), normal(1, 8))

        rows = decode(table.rows, block_type)[ids]
        np.testing.assert_allclose(found, rows, rtol=3e-7, atol=3e-7 * float(np.abs(rows).max()))


@pytest.mark.parametrize("width", [1, 15, 16, 64, 333, 4096])
class TestRows:
    """The operations that work row by row."""

    def test_norm(self, backend: Backend, width: int) -> None:
        x, weight = normal(5, width) * 10, normal(width)
        placed = backend.place_vector(weight)

        found = compute(backend, lambda ops, x: ops.norm(x, placed, 1e-5), x)

        np.testing.assert_allclose(found, exact_norm(x.astype(np.float64), weight, 1e-5), rtol=2e-6, atol=1e-12)

    def test_add_norm_returns_the_sum_and_its_norm(self, backend: Backend, width: int) -> None:
        x, delta, weight = normal(5, width), normal(5, width, seed=1), normal(width, seed=2)
        placed = backend.place_vector(weight)

        total = compute(backend, lambda ops, x, delta: ops.add_norm(x, delta, placed, 1e-3)[0], x, delta)
        normed = compute(backend, lambda ops, x, delta: ops.add_norm(x, delta, placed, 1e-3)[1], x, delta)

        np.testing.assert_array_equal(total, x + delta)
        np.testing.assert_allclose(normed, exact_norm(total, weight, 1e-3), rtol=2e-6, atol=1e-12)

    def test_gate(self, backend: Backend, width: int) -> None:
        gate, up = normal(5, width) * 8, normal(5, width, seed=1)
        gate[0, 0], gate[1, 0], gate[2, 0] = 90.0, -90.0, -1e30

        found = compute(backend, lambda ops, gate, up: ops.gate(gate, up), gate, up)

        z = gate.astype(np.float64)
        with np.errstate(over="ignore"):
            expected = z / (1 + np.exp(-z)) * up
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-30)


def exact_norm(x: Doubles, weight: Floats, epsilon: float) -> Doubles:
    scale = 1 / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + epsilon)
    return np.asarray(x * scale * weight, np.float64)


def attention(
    *,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    pairs: RopePairs,
    rotated: int | None = None,
    amplitude: float = 1.0,
) -> AttentionSpec:
    rotary_dim = head_dim if rotated is None else rotated
    return AttentionSpec(
        num_layers=2,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        inverse_frequencies=500_000.0 ** (-np.arange(0, rotary_dim, 2) / rotary_dim),
        rope_pairs=pairs,
        softmax_scale=head_dim**-0.5,
        rope_amplitude=amplitude,
    )


ATTENTIONS = {
    "grouped, 64": attention(num_heads=8, num_kv_heads=2, head_dim=64, pairs=RopePairs.INTERLEAVED),
    "grouped, 128, halves": attention(num_heads=6, num_kv_heads=2, head_dim=128, pairs=RopePairs.HALVES),
    "one query head each": attention(num_heads=3, num_kv_heads=3, head_dim=32, pairs=RopePairs.INTERLEAVED),
    "one key/value head": attention(num_heads=24, num_kv_heads=1, head_dim=16, pairs=RopePairs.HALVES),
    "odd size": attention(num_heads=4, num_kv_heads=2, head_dim=26, pairs=RopePairs.INTERLEAVED, amplitude=1.2),
    "rotated in part": attention(num_heads=4, num_kv_heads=2, head_dim=48, pairs=RopePairs.HALVES, rotated=20),
    "rotated in part, pairs": attention(
        num_heads=4, num_kv_heads=4, head_dim=40, pairs=RopePairs.INTERLEAVED, rotated=24
    ),
}
# Steps over a cache of 64 pages: sequences as (first position, tokens, pages). Later steps go on with earlier ones.
STEPS: dict[str, list[list[tuple[int, int, list[int]]]]] = {
    "one token": [[(0, 1, [5])]],
    "a prompt": [[(0, 77, [9, 0, 33])]],
    "a prompt in odd chunks": [[(0, 31, [7, 2, 8])], [(31, 2, [7, 2, 8])], [(33, 40, [7, 2, 8])]],
    "prompts and single tokens together": [
        [(0, 40, [3, 4]), (0, 64, [10, 11, 12])],
        [(40, 1, [3, 4]), (64, 1, [10, 11, 12]), (0, 33, [20, 21]), (0, 1, [30])],
        [(41, 1, [3, 4]), (65, 9, [10, 11, 12]), (33, 1, [20, 21]), (1, 1, [30])],
    ],
    "a shared prefix": [[(0, 32, [1])], [(32, 5, [1, 2]), (32, 6, [1, 3])]],
    # Two pages stand in for the first 34: a long past without the work of making one.
    "a long context": [
        [(0, 64, [1, 2]), (0, 32, [3])],
        [(1096, 1, [1, 2] * 17 + [3])],
        [(1097, 36, [1, 2] * 17 + [3, 4]), (0, 3, [9])],
    ],
}


@pytest.mark.parametrize("cache_type", CacheType, ids=lambda kind: kind.value)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(backend: Backend, name: str, steps: str, cache_type: CacheType) -> None:
    for found, expected in zip(
        run_steps(backend, name, steps, cache_type), exact_steps(name, steps, cache_type), strict=True
    ):
        assert_attention_is_close(found, expected, cache_type)


@cache
def exact_steps(name: str, steps: str, cache_type: CacheType) -> list[Doubles]:
    return run_steps(ReferenceBackend(), name, steps, cache_type)


def run_steps(backend: Backend, name: str, steps: str, cache_type: CacheType) -> list[Doubles]:
    spec = ATTENTIONS[name]
    backend.open_pages(spec, cache_type, 64)
    batches = [batch_of(step) for step in STEPS[steps]]
    return [attend(backend, spec, batch, *qkv(spec, len(batch.ids), seed=index)) for index, batch in enumerate(batches)]


def qkv(spec: AttentionSpec, num_tokens: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    q = normal(num_tokens, spec.num_heads * spec.head_dim, seed=3 * seed)
    k, v = (normal(num_tokens, spec.num_kv_heads * spec.head_dim, seed=3 * seed + extra) for extra in (1, 2))
    return 2 * q, k, v


def attend(backend: Backend, spec: AttentionSpec, batch: Batch, q: Floats, k: Floats, v: Floats) -> Doubles:
    return compute(backend, lambda ops, q, k, v: ops.attend(q, k, v, 1, batch), q, k, v, batch=batch)


def assert_attention_is_close(found: Doubles, expected: Doubles, cache_type: CacheType) -> None:
    # Values are normal, so 1 is the measure. A key on the border of two numbers may round the other way.
    error = np.abs(found - expected)
    most, usual = {
        CacheType.F32: (2e-5, 2e-6),
        CacheType.F16: (2e-3, 1e-4),
        CacheType.I8: (2e-2, 1e-3),
    }[cache_type]
    assert error.max() <= most
    assert np.sqrt(np.mean(error**2)) <= usual


@pytest.mark.parametrize("pairs", RopePairs, ids=lambda pairs: pairs.value)
def test_attention_at_the_end_of_a_128k_context(backend: Backend, pairs: RopePairs) -> None:
    np.testing.assert_allclose(end_of_128k(backend, pairs), exact_end_of_128k(pairs), atol=5e-5)


@cache
def exact_end_of_128k(pairs: RopePairs) -> Doubles:
    return end_of_128k(ReferenceBackend(), pairs)


def end_of_128k(backend: Backend, pairs: RopePairs) -> Doubles:
    """Return the output of the last two of 131,072 tokens, when the pages before theirs are all one page."""
    spec = attention(num_heads=2, num_kv_heads=1, head_dim=64, pairs=pairs)
    backend.open_pages(spec, CacheType.F32, 2)
    attend(backend, spec, batch_of([(0, 32, [0]), (0, 32, [1])]), *qkv(spec, 64))
    return attend(backend, spec, batch_of([(131_070, 2, [0] * 4095 + [1])]), *qkv(spec, 2, seed=1))


def test_copied_pages_hold_what_their_sources_held_before_the_step(backend: Backend) -> None:
    spec, reference = ATTENTIONS["grouped, 64"], ReferenceBackend()
    results = []
    for subject in (backend, reference):
        subject.open_pages(spec, CacheType.F16, 8)
        attend(subject, spec, batch_of([(0, 40, [0, 1]), (0, 40, [2, 3])]), *qkv(spec, 80))
        step = batch_of([(40, 1, [0, 1]), (40, 1, [0, 5]), (40, 1, [2, 1])])
        copying = Batch(
            step.ids,
            step.positions,
            step.row_starts,
            step.page_table,
            step.wanted,
            page_copies=np.array([[1, 5], [3, 1]], np.int32),
        )
        copying.page_table[0, 1] = 3
        results.append(attend(subject, spec, copying, *qkv(spec, 3, seed=1)))

    assert_attention_is_close(results[0], results[1], CacheType.F16)
