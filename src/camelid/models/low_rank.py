"""Adapters beside the weights: each row of a batch may use another one, and rows that use none pay nothing.

A product of the model stays as it is; what an adapter adds, up · (down · x), is computed for the rows that use it. So a
row's result depends on its own adapter and on nothing else in the batch, and one copy of the weights serves them all.
Source: Chen et al. 2023 (Punica); Sheng et al. 2023 (S-LoRA).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import Batch, LowRank, RowChange

from .spec import Weight

Slot = tuple[Weight, int]


@dataclass(frozen=True, eq=False)
class PlacedAdapter:
    """An adapter on a backend: what it adds to each matrix that it changes."""

    changes: Mapping[Slot, LowRank]


@dataclass(frozen=True, eq=False)
class Adapters:
    """The adapters that a model knows, by number. Number 0 is none, and no number is used twice."""

    placed: dict[int, PlacedAdapter] = field(default_factory=dict)

    def of(self, batch: Batch) -> AdaptedRows | None:
        """Return which rows of `batch` use which adapter, None if none does."""
        if batch.adapters is None or not batch.adapters.any():
            return None
        lengths = np.diff(batch.row_starts)
        numbers = np.repeat(batch.adapters, lengths)  # (T,)
        return AdaptedRows(self._groups(numbers), self._groups(numbers[batch.wanted]))

    def _groups(self, numbers: NDArray[np.int32]) -> tuple[_Group, ...]:
        return tuple(
            _Group(np.flatnonzero(numbers == number).astype(np.int32), self.placed[int(number)])
            for number in np.unique(numbers)
            if number
        )


@dataclass(frozen=True, eq=False)
class _Group:
    """Rows that use the same adapter."""

    rows: NDArray[np.int32]
    adapter: PlacedAdapter


@dataclass(frozen=True, eq=False)
class AdaptedRows:
    """Which rows of a batch use which adapter: of all its tokens, and of those whose logits are wanted."""

    tokens: tuple[_Group, ...]
    wanted: tuple[_Group, ...]

    def changes(self, weights: Sequence[Weight], layer: int) -> list[RowChange]:
        """Return what is added to the products with `weights` of a layer."""
        return _changes(self.tokens, weights, layer)

    def head_changes(self) -> list[RowChange]:
        """Return what is added to the logits of the wanted rows."""
        return _changes(self.wanted, (Weight.HEAD,), 0)


def _changes(groups: Sequence[_Group], weights: Sequence[Weight], layer: int) -> list[RowChange]:
    found = []
    for group in groups:
        pairs = tuple(group.adapter.changes.get((weight, layer)) for weight in weights)
        if any(pair is not None for pair in pairs):
            found.append(RowChange(group.rows, pairs))
    return found
