"""Bytes from a mapped file to a device, through memory that the device reads by itself.

Two buffers take turns: while one is being copied to the device, the next piece of the file is read into the other.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

STAGE_BYTES = 32 << 20
NUM_STAGES = 2


def to_device(rows: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return a copy of (rows, bytes per row) on `device`. The rows may be a view that is not contiguous."""
    target = torch.empty(rows.shape, dtype=torch.uint8, device=device)
    if device.type == "cpu":
        target.numpy()[...] = rows
    elif rows.size:
        _stream(rows, target)
    return target


def slabs(num_rows: int, row_bytes: int, most_bytes: int = STAGE_BYTES) -> list[tuple[int, int]]:
    """Return from which to which row is copied at a time."""
    step = max(1, most_bytes // max(row_bytes, 1))
    return [(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def _stream(rows: NDArray[np.uint8], target: torch.Tensor) -> None:
    pieces = slabs(len(rows), rows.shape[1])
    largest = max(stop - start for start, stop in pieces)
    stages = [torch.empty((largest, rows.shape[1]), dtype=torch.uint8, pin_memory=True) for _ in range(NUM_STAGES)]
    done: list[torch.cuda.Event | None] = [None] * NUM_STAGES
    for number, (start, stop) in enumerate(pieces):
        turn = number % NUM_STAGES
        stage, before = stages[turn][: stop - start], done[turn]
        if before is not None:
            before.synchronize()
        stage.numpy()[...] = rows[start:stop]
        target[start:stop].copy_(stage, non_blocking=True)
        done[turn] = event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(target.device))
    torch.cuda.current_stream(target.device).synchronize()  # the buffers go now
