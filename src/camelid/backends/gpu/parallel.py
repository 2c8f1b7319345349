"""What several ranks do together: they sum, and they put parts side by side.

A rank is a process with a part of every weight (`models/sharding.py`). Ranks run the same operations in the same order,
so each of these calls meets its counterparts. Alone, a rank is its own sum. On GPUs small sums go through memory that
all of them see, where PyTorch offers it and a trial gives the right sum; everything else through NCCL, and gloo on the
CPU.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from camelid.errors import InvalidSetting, Unavailable

from ..base import Team

SHARED_BYTES = 256 << 10  # larger sums are NCCL's
PATIENCE = timedelta(minutes=10)  # until all ranks have placed their weights

_log = logging.getLogger(__name__)


class Group(Protocol):
    """The ranks that compute one model."""

    @property
    def size(self) -> int:
        """How many there are."""

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of all ranks' x. May work in place."""

    def joined(self, x: Tensor, whole: int) -> Tensor:
        """Return all ranks' (W, n) side by side: (W, whole)."""


class Alone:
    """A group of one."""

    size = 1

    def total(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def joined(self, x: Tensor, whole: int) -> Tensor:
        """Return x."""
        return x


ALONE = Alone()


class Ranks:
    """This process as one of several. Only one group can be in a process."""

    def __init__(self, team: Team, device: torch.device) -> None:
        """Meet the others, which waits until all are there. Raises InvalidSetting, Unavailable."""
        import torch.distributed as dist

        if not dist.is_available():
            raise InvalidSetting("this PyTorch was built without torch.distributed", hint="--tensor-parallel 1")
        if dist.is_initialized():
            raise InvalidSetting("this process computes a model with several ranks already")
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, "lo")  # ranks are on one machine: nothing listens to others
        store = dist.FileStore(str(Path(team.meeting) / "ranks"), team.size)  # type: ignore[attr-defined]
        try:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=store,
                rank=team.rank,
                world_size=team.size,
                timeout=PATIENCE,
            )
        except RuntimeError as error:
            raise Unavailable(f"the {team.size} ranks do not find each other: {error}") from error
        self._dist, self.size = dist, team.size
        self._gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its newer name
        self._shared = _shared_sum(dist, device)

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of all ranks' x, in place where it goes through NCCL or gloo."""
        x = x.contiguous()
        if self._shared is not None and x.numel() * x.element_size() <= SHARED_BYTES:
            return self._shared.total(x)
        self._dist.all_reduce(x)
        return x

    def joined(self, x: Tensor, whole: int) -> Tensor:
        """Return all ranks' (W, n) side by side; the last ones may have fewer columns."""
        step = -(-whole // self.size)
        own = functional.pad(x, (0, step - x.shape[1])).contiguous()
        parts = torch.empty((self.size, *own.shape), dtype=own.dtype, device=own.device)
        self._gather(parts.flatten(0, 1), own)
        return parts.transpose(0, 1).reshape(len(own), -1)[:, :whole]


class _SharedSum:
    """Sums in one step over memory that every rank can read. Source: torch.distributed._symmetric_memory."""

    def __init__(self, group: Any, device: torch.device) -> None:
        import torch.distributed._symmetric_memory as symmetric

        self._group = group.group_name
        self._memory = symmetric.empty(SHARED_BYTES, dtype=torch.uint8, device=device)
        symmetric.rendezvous(self._memory, self._group)

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of all ranks' x."""
        size = x.numel() * x.element_size()
        own = self._memory[:size].view(x.dtype)
        own.copy_(x.reshape(-1))
        found: Tensor = torch.ops.symm_mem.one_shot_all_reduce(own, "sum", self._group)
        return found.reshape(x.shape)


def _shared_sum(dist: Any, device: torch.device) -> _SharedSum | None:
    """Return the sum over shared memory if it gives what NCCL gives, on every rank."""
    if device.type != "cuda":
        return None
    found, works = None, torch.ones(1, device=device)
    try:
        found = _SharedSum(dist.group.WORLD, device)
        trial = torch.arange(4096, device=device, dtype=torch.float32) * (dist.get_rank() + 1)
        expected = trial.clone()
        dist.all_reduce(expected)
        works[0] = float(torch.equal(found.total(trial), expected))
    except (RuntimeError, ImportError, AttributeError) as error:
        _log.info("sums go through NCCL: %s", error)
        works[0] = 0.0
    dist.all_reduce(works, op=dist.ReduceOp.MIN)
    return found if works.item() else None
