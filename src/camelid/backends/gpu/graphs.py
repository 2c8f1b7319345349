"""Steps of one token for each sequence, recorded once and played again: the device is told of a few hundred kernels in
one call.

Recorded lazily, for rounded numbers of sequences; a batch is padded to the next of them. Everything that changes from
step to step is in the tensors of a `FixedStep`. All recordings share one pool of memory, since one runs at a time.
What cannot be recorded runs as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..base import AttentionSpec, Batch, Forward
from .step import FixedStep

SIZES = (1, 2, 4, *range(8, 65, 8), *range(80, 129, 16), *range(160, 257, 32))
WIDTHS = (64, 256, 1024, 4096)  # pages of the longest sequence
WARM_UPS = 2  # runs before a recording, in which libraries and Triton choose their kernels

_log = logging.getLogger(__name__)

Compute = Callable[[Forward, FixedStep], Tensor]


class Recorder(Protocol):
    """What records work on the device."""

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return what plays `work` again, on the same tensors, and gives its result."""


class CudaRecorder:
    """Records CUDA graphs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Warm up beside the main stream, record, and return what replays."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            found = work()

        def play() -> Tensor:
            graph.replay()
            return found

        return play


class Graphs:
    """The recordings of one backend with open pages."""

    def __init__(
        self, recorder: Recorder, spec: AttentionSpec, num_pages: int, device: torch.device, compute: Compute
    ) -> None:
        """Have none yet. The page numbered `num_pages`, behind all others, is for rows that pad a batch."""
        self._recorder, self._spec, self._num_pages = recorder, spec, num_pages
        self._device, self._compute = device, compute
        self._plays: dict[tuple[int, int, int], tuple[FixedStep, Callable[[], Tensor], Forward]] = {}
        self._is_off = False

    def run(self, model: Forward, batch: Batch) -> Tensor | None:
        """Return the logits of a batch, (S, V), or None where it is not one that is recorded.

        They are overwritten by the next step.
        """
        count = len(batch.ids)
        if self._is_off or not is_recordable(batch):
            return None
        size = next(size for size in SIZES if size >= count)
        width = next(width for width in WIDTHS if width >= batch.page_table.shape[1])
        found = self._plays.get((id(model), size, width)) or self._record(model, size, width, batch)
        if found is None:
            return None
        step, play, _ = found
        step.fill(batch)
        return play()[:count]

    def _record(
        self, model: Forward, size: int, width: int, batch: Batch
    ) -> tuple[FixedStep, Callable[[], Tensor], Forward] | None:
        step = FixedStep.of(size, width, self._num_pages, self._spec, self._device)
        step.fill(batch)  # so that the runs before the recording write what this step writes anyway
        try:
            play = self._recorder.record(lambda: self._compute(model, step))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _log.warning("steps are not recorded on this device: %s", error)
            self._is_off = True
            return None
        self._plays[id(model), size, width] = found = (step, play, model)
        return found


def is_recordable(batch: Batch) -> bool:
    """Say whether each sequence has one token, whose logits are wanted, and no adapter."""
    count = len(batch.ids)
    return (
        0 < count <= SIZES[-1]
        and len(batch.row_starts) == count + 1
        and len(batch.wanted) == count
        and batch.page_table.shape[1] <= WIDTHS[-1]
        and batch.adapters is None
        and bool(np.all(np.diff(batch.row_starts) == 1))
    )
