"""Whether there is a GPU that can be used, and the backend on it. PyTorch is imported only where it is of use."""

from __future__ import annotations

import logging
from pathlib import Path

from camelid.errors import MissingDependency

from ..base import Backend

DRIVER = Path("/proc/driver/nvidia")  # there when a driver is loaded: importing PyTorch only to ask takes seconds
INSTALL = "pip install 'camelid[gpu]'"

_log = logging.getLogger(__name__)


def can_use_gpu() -> bool:
    """Say whether this machine has a GPU and what it takes to use it."""
    if not DRIVER.exists():
        return False
    try:
        import torch
    except ImportError:
        _log.warning("there is a GPU, but not what it takes to use it: %s", INSTALL)
        return False
    return bool(torch.cuda.is_available())


def open_gpu() -> Backend:
    """Return the backend on the first GPU. Raises MissingDependency where there is none, or no PyTorch."""
    try:
        import torch

        from .backend import GpuBackend
    except ImportError as error:
        raise MissingDependency(f"the gpu backend needs PyTorch: {error}", hint=INSTALL) from error
    if not torch.cuda.is_available():
        raise MissingDependency("PyTorch finds no GPU that it can use", hint="--device cpu works without")
    return GpuBackend()
