"""Whether there are GPUs that can be used, what they offer, and the backend on them. PyTorch is imported only to
compute.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.errors import InvalidSetting, MissingDependency

from ..base import AttentionSpec, Backend, CacheType, Memory, Team
from .driver import Gpu, gpus
from .sizes import page_bytes

LEAST_CAPABILITY = (8, 0)  # Ampere: the first with bfloat16 on its tensor cores
INSTALL = "pip install 'camelid[gpu]'"
RESERVED_BYTES = 1 << 30  # of each GPU: the driver's own, activations, graphs

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuSurvey:
    """What some equal GPUs offer to each rank of a model. `most_bytes`: what a model may take of each, if bounded."""

    devices: tuple[Gpu, ...]
    most_bytes: int | None = None

    @property
    def name(self) -> str:
        """`gpu` with the devices' name."""
        return f"gpu ({self.devices[0].name})"

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        """Return the bytes of one page over all layers."""
        return page_bytes(attention, cache_type)

    def memory(self) -> Memory:
        """Return the memory of the GPU that has the least free: every rank takes as much."""
        total, free = (min(sizes) for sizes in zip(*map(_sizes, self.devices), strict=True))
        free = max(0, free - RESERVED_BYTES)
        return Memory(total, free if self.most_bytes is None else min(free, self.most_bytes))


@dataclass(frozen=True)
class CheckedSurvey:
    """The GPU backend on the processor: what it takes, and the machine's own memory."""

    machine: Memory

    @property
    def name(self) -> str:
        """`gpu (cpu)`."""
        return "gpu (cpu)"

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        """Return the bytes of one page over all layers."""
        return page_bytes(attention, cache_type)

    def memory(self) -> Memory:
        """Return the machine's memory."""
        return self.machine


def can_use_gpu(ranks: int = 1) -> bool:
    """Say whether this machine has so many GPUs and what it takes to use them; log what is missing."""
    found = gpus()
    if not found:
        return False
    reason = why_not(found, ranks)
    if reason is not None:
        _log.warning("there is a GPU, but it is not used: %s", reason)
    return reason is None


def why_not(found: Sequence[Gpu], ranks: int) -> str | None:
    """Return why GPUs cannot be used, None where they can."""
    if len(found) < ranks:
        return f"{ranks} are asked for and {len(found)} are there"
    for gpu in found[:ranks]:
        if gpu.capability is not None and gpu.capability < LEAST_CAPABILITY:
            return "{} has compute capability {}.{}, and 8.0 is the least".format(gpu.name, *gpu.capability)
    if importlib.util.find_spec("torch") is None:
        return f"PyTorch is not installed: {INSTALL}"
    return None


def survey_gpus(ranks: int, most_bytes: int | None) -> GpuSurvey:
    """Return what the first so many GPUs offer. Raises MissingDependency, InvalidSetting for more than there are."""
    found = gpus()
    if not found:
        raise MissingDependency("the driver knows no GPU", hint="--device cpu works without")
    reason = why_not(found, ranks)
    if reason is not None:
        kind = InvalidSetting if len(found) < ranks else MissingDependency
        raise kind(f"the GPUs cannot be used: {reason}", hint="--device cpu works without")
    return GpuSurvey(tuple(found[:ranks]), most_bytes)


def open_gpu(team: Team | None = None, *, on_cpu: bool = False, is_fp8: bool = False) -> Backend:
    """Return the backend on the GPU of this rank; `on_cpu`, on the processor, in float32, for checking.
    `is_fp8`: round float weights to 8 bits.

    Raises MissingDependency where there is no GPU, or no PyTorch.
    """
    try:
        import torch

        from .backend import GpuBackend
        from .parallel import ALONE, Ranks
    except ImportError as error:
        raise MissingDependency(f"the gpu backend needs PyTorch: {error}", hint=INSTALL) from error
    if on_cpu:
        device = torch.device("cpu")
        if team is not None:
            torch.set_num_threads(
                max(1, (os.cpu_count() or 1) // team.size)
            )  # threads of ranks that wait are in the way
        return GpuBackend(device, torch.float32, group=ALONE if team is None else Ranks(team, device), is_fp8=is_fp8)
    if not torch.cuda.is_available():
        raise MissingDependency("PyTorch finds no GPU that it can use", hint="--device cpu works without")
    device = torch.device("cuda", 0 if team is None else team.rank)
    torch.cuda.set_device(device)
    return GpuBackend(device, group=ALONE if team is None else Ranks(team, device), is_fp8=is_fp8)


def probe(*, on_cpu: bool, seconds: float) -> tuple[float, float]:
    """Return the bytes copied and the multiply-adds made in a second, in the type that is computed in.

    Raises MissingDependency without PyTorch.
    """
    try:
        import torch

        from .probes import probe_copy, probe_product
    except ImportError as error:
        raise MissingDependency(f"the GPU cannot be measured without PyTorch: {error}", hint=INSTALL) from error
    device, dtype = (torch.device("cpu"), torch.float32) if on_cpu else (torch.device("cuda"), torch.bfloat16)
    return probe_copy(device, seconds), probe_product(device, dtype, seconds)


def _sizes(gpu: Gpu) -> tuple[int, int]:
    return gpu.total_bytes, gpu.free_bytes
