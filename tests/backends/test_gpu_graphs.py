"""Recorded steps: what is played again gives what running it would give.

PyTorch's tracer stands in for CUDA graphs: it keeps the operations on tensors and nothing that Python decided, so a
number of the host that slipped into a recording shows as a wrong result.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from camelid.backends.base import Batch, CacheType
from camelid.backends.gpu.backend import GpuBackend
from camelid.backends.gpu.graphs import SIZES, is_recordable
from camelid.errors import OutOfMemory
from camelid.formats import open_checkpoint
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.models.synth import write_synthetic

NUM_PAGES = 24


class Tracer:
    """Records by tracing."""

    def __init__(self) -> None:
        self.num_recorded = self.num_played = 0

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.num_recorded += 1
        with torch.inference_mode(False), torch.no_grad():
            traced = make_fx(work)()

        def play() -> Tensor:
            self.num_played += 1
            found: Tensor = traced()
            return found

        return play


class Refusing:
    """A device that cannot record."""

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    file = tmp_path_factory.mktemp("graphs") / "tiny.gguf"
    write_synthetic(file, "tiny", "Q8_0", seed=5, num_layers=1)
    return file


def opened(path: Path, recorder: object, cache_type: CacheType = CacheType.F32) -> Callable[[Batch], np.ndarray]:
    backend = GpuBackend(torch.device("cpu"), torch.float32, recorder=recorder)  # type: ignore[arg-type]
    model = load_model(open_checkpoint(path), backend)
    backend.open_pages(attention_spec(model.spec), cache_type, NUM_PAGES)
    return lambda batch: np.array(backend.run(model, batch))


def prompts(lengths: list[int]) -> Batch:
    """Return the prompts of sequences that have two pages each."""
    count = len(lengths)
    return Batch(
        ids=np.arange(sum(lengths), dtype=np.int32) % 500,
        positions=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        row_starts=np.cumsum([0, *lengths]).astype(np.int32),
        page_table=np.arange(2 * count, dtype=np.int32).reshape(count, 2),
        wanted=np.cumsum(lengths).astype(np.int32) - 1,
    )


def tokens(ids: list[int], positions: list[int], copies: list[tuple[int, int]] | None = None) -> Batch:
    """Return one more token of each sequence."""
    count = len(ids)
    return Batch(
        ids=np.array(ids, np.int32),
        positions=np.array(positions, np.int32),
        row_starts=np.arange(count + 1, dtype=np.int32),
        page_table=np.arange(2 * count, dtype=np.int32).reshape(count, 2),
        wanted=np.arange(count, dtype=np.int32),
        page_copies=np.array(copies or [], np.int32).reshape(-1, 2),
    )


def test_steps_that_are_played_give_what_steps_that_are_run_give(path: Path) -> None:
    recorder = Tracer()
    played, run = opened(path, recorder, CacheType.I8), opened(path, None, CacheType.I8)
    steps = [
        prompts([5, 40, 31]),
        tokens([7, 8, 9], [5, 40, 31]),  # recorded for four
        tokens([17, 18, 19], [6, 41, 32]),  # over the end of a page
        tokens([3, 4], [7, 42], [(1, 20)]),  # recorded for two
        tokens([13, 14, 15], [8, 43, 33]),
    ]
    for batch in steps:
        np.testing.assert_allclose(played(batch), run(batch), atol=2e-5)
    assert (recorder.num_recorded, recorder.num_played) == (2, 4)


def test_only_steps_of_one_token_each_are_recorded() -> None:
    assert is_recordable(tokens([1, 2], [3, 4]))
    assert not is_recordable(prompts([5, 1]))
    assert not is_recordable(prompts([1, 1, 2]))
    assert not is_recordable(tokens([1] * (SIZES[-1] + 1), [0] * (SIZES[-1] + 1)))
    assert list(SIZES) == sorted(set(SIZES))


def test_a_device_that_cannot_record_computes_all_the_same(path: Path) -> None:
    refused, run = opened(path, Refusing()), opened(path, None)
    for batch in (prompts([5]), tokens([7], [5]), tokens([8], [6])):
        np.testing.assert_array_equal(refused(batch), run(batch))


def test_a_step_that_does_not_fit_is_an_error_that_leaves_the_backend_usable(path: Path) -> None:
    from camelid.backends.gpu.kernels import twin

    class Full:
        """Kernels on a device that is full, for one call."""

        num_failures = 1
        multiply = staticmethod(twin.multiply)

        def attend(self, *arguments: object) -> Tensor:
            if self.num_failures:
                self.num_failures -= 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return twin.attend(*arguments)  # type: ignore[arg-type]

    backend = GpuBackend(torch.device("cpu"), torch.float32, Full())
    model = load_model(open_checkpoint(path), backend)
    backend.open_pages(attention_spec(model.spec), CacheType.F32, NUM_PAGES)
    batch = prompts([5, 9])
    with pytest.raises(OutOfMemory, match="does not fit on the device"):
        backend.run(model, batch)
    np.testing.assert_array_equal(np.array(backend.run(model, batch)), opened(path, None)(batch))
