"""Muon for the matrices (momentum, orthogonalized by Newton-Schulz steps) in float32, many matrices of a shape at once.

`torch.optim.Muon` works one matrix at a time in bfloat16, which is slow on processors without bfloat16 arithmetic.
Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Executor
from typing import Any

import torch
from torch import Tensor, nn


def orthogonalized(stack: Tensor, steps: int = 4) -> Tensor:
    """Return matrices (count, rows, columns) with singular values pulled near 1."""
    flip = stack.shape[1] > stack.shape[2]
    x: Tensor = stack.mT if flip else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315) @ x
    return x.mT if flip else x


class Muon:
    """Muon over two-dimensional parameters."""

    def __init__(
        self, parameters: list[nn.Parameter], rate: float = 0.02, momentum: float = 0.95, decay: float = 0.1
    ) -> None:
        self.rate, self.momentum, self.decay = rate, momentum, decay
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.shape].append(parameter)
        self.groups = [same[i : i + 5] for same in by_shape.values() for i in range(0, len(same), 5)]
        self.buffers = [torch.zeros(len(group), *group[0].shape) for group in self.groups]

    def step(self, scale: float, pool: Executor) -> None:
        """Update with `scale` times the learning rate, groups in parallel."""
        list(pool.map(self._update, self.groups, self.buffers, [self.rate * scale] * len(self.groups)))

    @torch.no_grad()
    def _update(self, group: list[nn.Parameter], buffer: Tensor, rate: float) -> None:
        gradient = torch.stack([p.grad for p in group if p.grad is not None])
        buffer.lerp_(gradient, 1 - self.momentum)
        update = orthogonalized(gradient.lerp(buffer, self.momentum))
        size = max(1.0, group[0].shape[0] / group[0].shape[1]) ** 0.5
        for parameter, change in zip(group, update, strict=True):
            parameter.mul_(1 - rate * self.decay).add_(change, alpha=-rate * size)

    def state_dict(self) -> dict[str, Any]:
        """Return the momentum."""
        return {"buffers": self.buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the momentum."""
        self.buffers = state["buffers"]
