"""Models computed by several processes: the ids of one, and nothing lost when one of them is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch

from camelid.backends.base import Batch, CacheType
from camelid.backends.gpu.backend import GpuBackend
from camelid.engine.engine import Engine
from camelid.engine.request import EmbedRequest, GenerateRequest
from camelid.engine.settings import EngineSettings
from camelid.errors import InvalidSetting
from camelid.formats import open_checkpoint
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.models.synth import write_synthetic
from camelid.runtime.assembly import open_engine
from camelid.runtime.frames import Adapt, Load, Unpacker, pack
from camelid.runtime.rank_frames import Run, batch_of, order_decoder, run_order
from camelid.runtime.supervisor import SupervisedEngine
from camelid.settings import ModelSettings
from camelid.types import Sampling
from tests.engine.drive import run_to_end

NUM_PAGES, CONTEXT = 24, 256
REQUESTS = [
    GenerateRequest("greedy", tuple(range(3, 40)), Sampling(temperature=0), 60),
    GenerateRequest("drawn", (7, 8, 9), Sampling(temperature=1.0, top_p=0.9, seed=3), 60, num_choices=2),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ranks") / "tiny.gguf"
    write_synthetic(file, "tiny", "F16", seed=5, num_layers=2)
    return file


@pytest.fixture(scope="module")
def of_one_rank(path: Path) -> dict[tuple[str, int], list[int]]:
    torch.set_num_threads(1)  # several wait for each other longer than so small a model computes
    backend = GpuBackend(torch.device("cpu"), torch.float32)
    with open_checkpoint(path) as checkpoint:
        model = load_model(checkpoint, backend)
        backend.open_pages(attention_spec(model.spec), CacheType.F16, NUM_PAGES)
        settings = EngineSettings(model.spec.vocab_size, CONTEXT, NUM_PAGES)
        answers = run_to_end(Engine(model, backend, settings), REQUESTS)
    return {key: [token.id for token in tokens] for key, tokens in answers.items()}


@contextlib.asynccontextmanager
async def shared(path: Path, ranks: int) -> AsyncIterator[SupervisedEngine]:
    settings = ModelSettings(device="gpu-on-cpu", tensor_parallel=ranks, max_guessed=0)
    engine = SupervisedEngine(Load(str(path), settings, NUM_PAGES, CONTEXT))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_four_ranks_give_the_ids_of_one(path: Path, of_one_rank: dict[tuple[str, int], list[int]]) -> None:
    """The first rank is this process, which spares it PyTorch's start."""
    settings = ModelSettings(device="gpu-on-cpu", tensor_parallel=4, max_guessed=0)
    others = set(children(os.getpid()))  # of tests before this one
    engine, backend = open_engine(Load(str(path), settings, NUM_PAGES, CONTEXT), print)
    assert isinstance(engine, Engine)
    try:
        assert "4 ranks" in backend
        answers = run_to_end(engine, REQUESTS)
        assert {key: [token.id for token in tokens] for key, tokens in answers.items()} == of_one_rank
        engine.submit_texts(EmbedRequest("vector", ((5, 6, 7),)))
        (found,) = engine.embed()
        assert np.linalg.norm(np.frombuffer(found.vectors[0], np.float32)) == pytest.approx(1, abs=1e-5)
        assert len(set(children(os.getpid())) - others) == 3
    finally:
        engine.close()
        torch.distributed.destroy_process_group()
    assert set(children(os.getpid())) <= others


@pytest.mark.asyncio
async def test_a_rank_that_is_killed_costs_a_pause_and_no_token(
    path: Path, of_one_rank: dict[tuple[str, int], list[int]]
) -> None:
    async with shared(path, 2) as engine:
        assert engine.pid is not None
        first, (rank,) = engine.pid, children(engine.pid)
        stream = engine.generate(REQUESTS[0])
        ids = [token.id for token in await anext(stream)]
        os.kill(rank, signal.SIGKILL)
        async for tokens in stream:
            ids += [token.id for token in tokens]
        assert ids == of_one_rank["greedy", 0]
        assert (engine.health().num_restarts, engine.pid != first) == (1, True)
        left = [*children(engine.pid), engine.pid]
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_a_batch_reaches_the_other_ranks_as_it_is() -> None:
    batch = Batch(
        ids=np.array([3, 4], np.int32),
        positions=np.array([0, 1], np.int32),
        row_starts=np.array([0, 2], np.int32),
        page_table=np.array([[1, 0]], np.int32),
        wanted=np.array([1], np.int32),
        segments=np.array([0, 1], np.int32),
    )
    (order,) = Unpacker(order_decoder).feed(pack(run_order(batch, is_hidden=True)))
    assert isinstance(order, Run)
    found = batch_of(order)
    assert order.is_hidden
    for name in ("ids", "positions", "row_starts", "page_table", "wanted", "page_copies", "segments"):
        np.testing.assert_array_equal(getattr(found, name), getattr(batch, name))
    assert found.adapters is None


def test_what_ranks_cannot_do_is_refused_before_they_start() -> None:
    settings = ModelSettings(device="gpu-on-cpu", tensor_parallel=2)
    with pytest.raises(InvalidSetting, match="--adapter"):
        open_engine(Load("model", settings, 8, 64, choosable=(Adapt("key", "path"),)), print)
