"""What the cpu backend and its extension refuse, what they take though it is empty, and how the threads behave."""

from __future__ import annotations

import ast
import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from camelid.backends.base import AttentionSpec, Batch, CacheType, RopePairs, Tensor
from camelid.backends.cpu._native import Cache, Processor, Queue, Step, Weight, available_isas
from camelid.backends.cpu.backend import CpuBackend
from camelid.errors import InvalidSetting, OutOfMemory, UnsupportedFormat
from camelid.formats.blocks import BlockType

SPEC = AttentionSpec(
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    inverse_frequencies=np.ones(4),
    rope_pairs=RopePairs.INTERLEAVED,
    softmax_scale=0.3,
)


def zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def ints(*values: Any) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def f32_weight(rows: int, columns: int) -> Weight:
    return Weight(np.zeros((rows, 4 * columns), np.uint8), 0, columns)


def step(positions: Any, row_starts: Any, table: Any, num_pages: int = 4, frequencies: Any = ()) -> Step:
    return Step(ints(*positions), ints(*row_starts), ints(*table), num_pages, np.array(frequencies, np.float64), 1.0)


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor(2, available_isas()[-1])


WRONG: dict[str, tuple[type[Exception], Callable[[Processor | Queue], object]]] = {
    "block type": (ValueError, lambda p: Weight(np.zeros((1, 36), np.uint8), 9, 32)),
    "negative block type": (ValueError, lambda p: Weight(np.zeros((1, 36), np.uint8), -1, 32)),
    "row of half a block": (ValueError, lambda p: Weight(np.zeros((1, 34), np.uint8), 8, 48)),
    "row with a byte missing": (ValueError, lambda p: Weight(np.zeros((1, 33), np.uint8), 8, 32)),
    "no columns": (ValueError, lambda p: Weight(np.zeros((1, 0), np.uint8), 8, 0)),
    "rows of another type": (TypeError, lambda p: Weight(zeros(1, 34), 8, 32)),  # type: ignore[arg-type]
    "x too narrow": (ValueError, lambda p: p.linear(zeros(1, 7), [f32_weight(2, 8)], (), [zeros(1, 2)])),
    "x not float32": (
        TypeError,
        lambda p: p.linear(np.zeros((1, 8)), [f32_weight(2, 8)], (), [zeros(1, 2)]),  # type: ignore[arg-type]
    ),
    "x not contiguous": (
        TypeError,
        lambda p: p.linear(zeros(2, 16)[:, ::2], [f32_weight(2, 8)], (), [zeros(2, 2)]),
    ),
    "out too small": (ValueError, lambda p: p.linear(zeros(2, 8), [f32_weight(2, 8)], (), [zeros(1, 2)])),
    "out missing": (ValueError, lambda p: p.linear(zeros(2, 8), [f32_weight(2, 8)], (), [])),
    "bias too short": (ValueError, lambda p: p.linear(zeros(1, 8), [f32_weight(2, 8)], [zeros(1)], [zeros(1, 2)])),
    "id beyond the table": (ValueError, lambda p: p.embed(ints(2), f32_weight(2, 8), zeros(1, 8))),
    "negative id": (ValueError, lambda p: p.embed(ints(-1), f32_weight(2, 8), zeros(1, 8))),
    "norm weight too short": (ValueError, lambda p: p.norm(zeros(1, 8), None, zeros(7), 1e-5, zeros(1, 8))),
    "norm of nothing": (ValueError, lambda p: p.norm(zeros(1, 0), None, zeros(0), 1e-5, zeros(1, 0))),
    "up of another shape": (ValueError, lambda p: p.gate(zeros(1, 8), zeros(2, 4))),
    "head too large": (ValueError, lambda p: Cache(1, 1, 1, 1025, 16)),
    "numbers of 4 bits": (ValueError, lambda p: Cache(1, 1, 1, 8, 4)),
    "no pages": (ValueError, lambda p: Cache(1, 0, 1, 8, 16)),
    "cache beyond any memory": (MemoryError, lambda p: Cache(1000, 2**40, 1000, 1000, 16)),
    "copy beyond the cache": (ValueError, lambda p: Cache(1, 2, 1, 8, 16).copy_pages(ints((0, 2)))),
    "copy of three": (ValueError, lambda p: Cache(1, 2, 1, 8, 16).copy_pages(ints((0, 1, 1)))),
    "page beyond the cache": (ValueError, lambda p: step([0], [0, 1], [(4,)])),
    "negative page": (ValueError, lambda p: step([0], [0, 1], [(-1,)])),
    "table too short": (ValueError, lambda p: step([32], [0, 1], [(0,)])),
    "negative position": (ValueError, lambda p: step([-1], [0, 1], [(0,)])),
    "positions with a gap": (ValueError, lambda p: step([0, 2], [0, 2], [(0,)])),
    "rows that descend": (ValueError, lambda p: step([0, 1], [0, 2, 1, 2], [(0,), (0,), (0,)])),
    "rows that end early": (ValueError, lambda p: step([0, 1], [0, 1], [(0,)])),
    "rows that begin late": (ValueError, lambda p: step([0, 1], [1, 2], [(0,)])),
    "tables and rows": (ValueError, lambda p: step([0], [0, 1], [(0,), (0,)])),
    "frequency that is not a number": (ValueError, lambda p: step([0], [0, 1], [(0,)], frequencies=[np.nan])),
    "unknown instruction set": (ValueError, lambda p: Processor(1, "sse9")),
    "no threads": (ValueError, lambda p: Processor(0, "portable")),
}


@pytest.mark.parametrize("is_queued", [False, True], ids=["at once", "queued"])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_raises_and_nothing_breaks(processor: Processor, name: str, is_queued: bool) -> None:
    error, call = WRONG[name]
    with pytest.raises(error):
        call(Queue(processor) if is_queued else processor)


@pytest.mark.parametrize(
    ("change", "value"), [("layer", 1), ("layer", -1), ("num_heads", 3), ("num_heads", 0), ("step", 5), ("q", 15)]
)
def test_attention_with_one_thing_wrong_raises(processor: Processor, change: str, value: int) -> None:
    arguments = {"layer": 0, "num_heads": 4, "step": 4, "q": 32} | {change: value}
    cache = Cache(1, 4, 2, 8, 16)
    one_step = step([0], [0, 1], [(0,)], num_pages=arguments["step"], frequencies=np.ones(4))
    q, kv = zeros(1, arguments["q"]), zeros(1, 16)
    with pytest.raises(ValueError, match=r"head|layer|cache|must be"):
        processor.attend(
            q, kv, kv, cache, arguments["layer"], one_step, arguments["num_heads"], 1.0, True, np.empty_like(q)
        )


def test_more_rotary_dimensions_than_a_head_has_raise(processor: Processor) -> None:
    x = zeros(1, 8)
    with pytest.raises(ValueError, match="rotary"):
        processor.attend(
            x, x, x, Cache(1, 4, 1, 8, 16), 0, step([0], [0, 1], [(0,)], 4, np.ones(5)), 1, 1.0, True, zeros(1, 8)
        )


def test_nothing_at_all_is_computed_without_complaint(processor: Processor) -> None:
    processor.linear(zeros(0, 8), [f32_weight(2, 8)], (), [zeros(0, 2)])
    processor.linear(zeros(2, 8), [], (), [])
    processor.embed(ints(), f32_weight(2, 8), zeros(0, 8))
    processor.norm(zeros(0, 8), None, zeros(8), 1e-5, zeros(0, 8))
    processor.gate(zeros(0, 8), zeros(0, 8))
    empty = Step(ints(), ints(0), np.empty((0, 0), np.int32), 4, np.empty(0), 1.0)
    processor.attend(zeros(0, 8), zeros(0, 8), zeros(0, 8), Cache(1, 4, 1, 8, 16), 0, empty, 1, 1.0, True, zeros(0, 8))


class TestQueues:
    """Operations that are asked for first and done together."""

    def test_nothing_is_done_before_it_is_told_to_run_and_nothing_twice(self, processor: Processor) -> None:
        queue, x = Queue(processor), np.ones((1, 8), np.float32)
        up = np.full((1, 8), 2, np.float32)
        queue.gate(x, up)
        assert (x == 1).all()
        queue.run()
        after = x.copy()
        assert (after != 1).all()
        queue.run()
        np.testing.assert_array_equal(x, after)

    def test_they_run_in_the_order_in_which_they_came(self, processor: Processor) -> None:
        rng, outs = np.random.default_rng(0), []
        values, start = rng.standard_normal((8, 8), dtype=np.float32), rng.standard_normal((3, 8), dtype=np.float32)
        for operations in (processor, Queue(processor)):
            weight, x, out = Weight(values.view(np.uint8), 0, 8), start.copy(), zeros(3, 8)
            operations.norm(x, None, np.ones(8, np.float32), 1e-5, out)
            operations.linear(out, [weight], (), [x])
            operations.gate(x, out)
            outs.append(x)
            if isinstance(operations, Queue):
                operations.run()
        np.testing.assert_array_equal(outs[1], outs[0])

    def test_what_they_work_on_is_kept_though_nobody_else_holds_it(self, processor: Processor) -> None:
        queue, out = Queue(Processor(1, "portable")), zeros(1, 8)
        queue.embed(ints(1), Weight(np.full((2, 32), 64, np.uint8), 0, 8), out)
        cache, q = Cache(1, 4, 1, 8, 16), zeros(1, 8)
        queue.attend(
            q, zeros(1, 8), zeros(1, 8), cache, 0, step([0], [0, 1], [(0,)]), 1, 1.0, True, attended := zeros(1, 8)
        )
        held = sys.getrefcount(cache)
        del q
        gc.collect()
        queue.run()
        assert (out == np.frombuffer(b"@@@@", np.float32)).all()
        assert not attended.any()
        assert sys.getrefcount(cache) == held - 1  # and then let go


class EveryOperation:
    """A model of one layer that uses everything."""

    def __init__(self, backend: CpuBackend) -> None:
        rng = np.random.default_rng(0)
        self._table, self._out = (self._place(backend, rng, shape) for shape in ((20, 16), (16, 16)))
        self._kv = self._place(backend, rng, (8, 16))
        self._norm = backend.place_vector(np.ones(16, np.float32))

    @staticmethod
    def _place(backend: CpuBackend, rng: np.random.Generator, shape: tuple[int, int]) -> Any:
        values = rng.standard_normal(shape, dtype=np.float32)
        return backend.place(Tensor("weight", shape, BlockType.F32, values.view(np.uint8)))

    def forward(self, ops: Any, batch: Batch) -> Any:
        x = ops.embed(batch.ids, self._table)
        q, k, v = ops.linear(ops.norm(x, self._norm, 1e-5), [self._out, self._kv, self._kv])
        (delta,) = ops.linear(ops.attend(q, k, v, 0, batch), [self._out])
        x, h = ops.add_norm(x, delta, self._norm, 1e-5)
        return ops.logits(ops.gate(h, x), self._table, batch.wanted)


def batch_of(num_tokens: int, wanted: Any) -> Batch:
    return Batch(
        ids=np.arange(num_tokens, dtype=np.int32) % 20,
        positions=np.arange(num_tokens, dtype=np.int32),
        row_starts=ints(0, num_tokens) if num_tokens else ints(0),
        page_table=ints((1, 0)) if num_tokens else np.empty((0, 0), np.int32),
        wanted=ints(*wanted),
    )


def test_batches_without_tokens_or_wanted_rows_run() -> None:
    backend = CpuBackend(threads=2)
    backend.open_pages(SPEC, CacheType.F16, 2)
    model = EveryOperation(backend)

    assert backend.run(model, batch_of(0, [])).shape == (0, 20)
    assert backend.run(model, batch_of(40, [])).shape == (0, 20)
    assert backend.run(model, batch_of(40, [39])).shape == (1, 20)


def test_unwritten_slots_never_count() -> None:
    logits = []
    for is_poisoned in (False, True):
        backend = CpuBackend(threads=1)
        backend.open_pages(SPEC, CacheType.F16, 2)
        if is_poisoned:
            backend._pages.cache.poison()  # type: ignore[union-attr]
        logits.append(backend.run(EveryOperation(backend), batch_of(41, range(41))))

    np.testing.assert_array_equal(logits[1], logits[0])


def test_a_cache_larger_than_memory_is_refused_with_both_sizes() -> None:
    backend = CpuBackend(threads=1)
    num_pages = 2**40
    with pytest.raises(
        OutOfMemory, match=rf"{num_pages * backend.page_bytes(SPEC, CacheType.F16) >> 20} MiB, and \d+ MiB"
    ):
        backend.open_pages(SPEC, CacheType.F16, num_pages)


def test_a_block_type_without_kernels_is_named() -> None:
    tensor = Tensor("blk.0.ffn_up.weight", (1, 256), BlockType.IQ2_XXS, np.zeros((1, 66), np.uint8))
    with pytest.raises(UnsupportedFormat, match=r"blk\.0\.ffn_up\.weight: its block type is 'IQ2_XXS'"):
        CpuBackend(threads=1).place(tensor)


@pytest.mark.parametrize("settings", [{"isa": "mmx"}, {"threads": 0}, {"threads": 2000}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        CpuBackend(**settings)


def test_the_name_says_instruction_set_and_threads() -> None:
    assert CpuBackend(threads=1, isa="portable").name == "cpu (portable, 1 thread)"
    assert CpuBackend(threads=3, isa="portable").name == "cpu (portable, 3 threads)"


# ── threads ──


def products(processor: Processor, count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    weight = Weight(rng.integers(0, 100, (500, 34 * 8), dtype=np.uint8), 8, 256)
    x = rng.standard_normal((5, 256), dtype=np.float32)
    results = []
    for _ in range(count):
        out = np.empty((5, 500), np.float32)
        processor.linear(x, [weight], (), [out])
        results.append(out.tobytes())
    return results


def test_callers_from_several_threads_take_turns() -> None:
    processor = Processor(4, available_isas()[-1])
    expected, found = set(products(processor, 1)), []
    callers = [threading.Thread(target=lambda: found.extend(products(processor, 200))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert len(found) == 800
    assert set(found) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_computes_with_threads_of_its_own() -> None:
    processor = Processor(3, available_isas()[-1])
    expected = products(processor, 3)
    child = os.fork()
    if child == 0:
        os._exit(0 if products(processor, 3) == expected else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert products(processor, 3) == expected


def test_processors_come_and_go() -> None:
    for threads in (1, 2, 7) * 5:
        products(Processor(threads, available_isas()[-1]), 2)


def test_the_extension_that_is_built_has_what_its_stub_says():
    from camelid.backends.cpu import _native

    stub = ast.parse(Path(_native.__file__).with_name("_native.pyi").read_text(encoding="utf-8"))
    methods: dict[str, list[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.FunctionDef):
            assert callable(getattr(_native, node.name, None)), node.name
        if isinstance(node, ast.ClassDef):
            inherited = [name for base in node.bases if isinstance(base, ast.Name) for name in methods[base.id]]
            methods[node.name] = [each.name for each in node.body if isinstance(each, ast.FunctionDef)] + inherited
    for name, expected in methods.items():
        if not name.startswith("_"):  # what the stub alone has, to say a thing once
            assert [each for each in expected if not hasattr(getattr(_native, name), each)] == [], name


class TestAdapters:
    def add(self, x: NDArray[np.float32], out: NDArray[np.float32], rows: NDArray[np.int32], rank: int = 2) -> None:
        down = f32_weight(rank, 8)
        up = f32_weight(-(-out.shape[1] // 32), 32 * 2)
        Processor(1, available_isas()[0]).add_low_rank(x, [down], [up], [1.0], [rows], [out])

    def test_nothing_is_added_to_no_rows(self):
        out = zeros(3, 40)
        self.add(zeros(3, 8), out, ints())
        self.add(zeros(3, 8), out, ints(0, 2))
        assert not out.any()

    def test_shapes_that_do_not_fit_and_rows_that_are_not_there_are_refused(self):
        for x, out, rows, rank in (
            (zeros(3, 9), zeros(3, 40), ints(0), 2),
            (zeros(2, 8), zeros(3, 40), ints(0), 2),
            (zeros(3, 8), zeros(3, 40), ints(3), 2),
            (zeros(3, 8), zeros(3, 40), ints(-1), 2),
            (zeros(3, 8), zeros(3, 40), ints(0), 3),
        ):
            with pytest.raises(ValueError, match=r"must|is not one of"):
                self.add(x, out, rows, rank)
