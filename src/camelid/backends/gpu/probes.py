"""What a device can do at most: bytes moved and multiply-adds made in a second, by PyTorch's own copy and product.

What a benchmark holds its figures against; measured in the same run, since clocks move.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

COPY_BYTES = 256 << 20  # far more than a GPU's cache
MATRIX = 8192  # rows and columns of the product, on a GPU
SMALL_MATRIX = 512


def probe_copy(device: torch.device, seconds: float) -> float:
    """Return the bytes a second that are read and written together by copying."""
    source = torch.zeros(COPY_BYTES if device.type == "cuda" else COPY_BYTES // 8, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * _rate(device, seconds, lambda: target.copy_(source))


def probe_product(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Return the multiply-adds a second of a large square product in one type."""
    size = MATRIX if device.type == "cuda" else SMALL_MATRIX
    left, right = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return size**3 * _rate(device, seconds, lambda: torch.mm(left, right, out=out))


def _rate(device: torch.device, seconds: float, work: Callable[[], object]) -> float:
    """Return how many times a second something is done, without the first time."""
    work()
    _wait(device)
    start, count, taken = time.perf_counter(), 0, 0.0
    while taken < seconds:
        work()
        _wait(device)
        count, taken = count + 1, time.perf_counter() - start
    return count / taken


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
