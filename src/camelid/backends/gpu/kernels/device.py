"""What a kernel's launch asks of the device."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def processors(x: Tensor) -> int:
    """Return how many multiprocessors the device of x has; 1 for the CPU, where nothing is gained by splitting."""
    return _count(x.device) if x.device.type == "cuda" else 1


@cache
def _count(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
