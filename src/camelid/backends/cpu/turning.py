"""Weights that lie turned, and the copy of a checkpoint in which they do.

A product has the rows of a weight in the lanes of a vector, and a file has them one behind the other. Turning is a
third to a half of all instructions where few tokens are computed, so it is worth doing once and for all. What the
turned layout is: native/ops.h. Where copies lie and when they are made is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camelid.formats.fast_copy import FastCopy, Fill, Matrix

from .ops import Placed

LAYOUT = "cpu turned 1"  # the same for all instruction sets


class Turning:
    """Places weights, turned where a copy has them, and remembers the others: they can be turned."""

    def __init__(self) -> None:
        self._copy: FastCopy | None = None
        self._as_in_file: dict[str, tuple[Matrix, Placed]] = {}
        self._several: set[str] = set()  # tensors that are placed in parts

    def read_from(self, copy: FastCopy) -> None:
        """Take what is placed from now on out of `copy`, where it is in it."""
        self._copy = copy

    def place(self, name: str, rows: NDArray[np.uint8], ggml_id: int, columns: int) -> Placed:
        """Return the weight, on the copy's bytes or on `rows`. Raises ValueError for what there are no kernels for."""
        matrix = Matrix(name, ggml_id, *rows.shape)
        turned = None if self._copy is None else self._copy.rows(matrix)
        if turned is not None:
            return Placed(turned, ggml_id, columns, is_turned=True)
        placed = Placed(rows, ggml_id, columns)
        if name in self._as_in_file:
            self._several.add(name)
        self._as_in_file[name] = (matrix, placed)
        return placed

    def copyable(self) -> tuple[Sequence[Matrix], Fill]:
        """Return the matrices that can be turned, and what turns them."""
        found = {
            matrix: placed.weight
            for name, (matrix, placed) in self._as_in_file.items()
            if placed.weight.can_turn and name not in self._several
        }

        def fill(matrix: Matrix, begin: int, out: NDArray[np.uint8]) -> None:
            found[matrix].turn(begin, out)

        return list(found), fill
