"""Which tokens of a launch belong to which sequence, and where their past lies: what attention is told of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Spans:
    """Tokens row_starts[s] … row_starts[s + 1] − 1 are sequence s; its pages are table[s].

    table: (S, most pages); positions: (T,), both on the device. With `is_fixed` the tensors stay where they are and
    are filled anew for each launch: nothing on the host may depend on what is in them.
    """

    table: Tensor
    row_starts: list[int]
    positions: Tensor
    is_fixed: bool = False
    _tiles: dict[int, Tensor] = field(default_factory=dict)

    def tiles(self, tokens: int) -> Tensor:
        """Return first token, end and sequence of each run of at most so many tokens of a sequence: (3, runs)."""
        if tokens not in self._tiles:
            found = [
                (first, min(first + tokens, end), sequence)
                for sequence, (start, end) in enumerate(pairwise(self.row_starts))
                for first in range(start, end, tokens)
            ]
            rows = torch.tensor(found, dtype=torch.int64).reshape(-1, 3).T.contiguous()
            self._tiles[tokens] = rows.to(self.positions.device)
        return self._tiles[tokens]
