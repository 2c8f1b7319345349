"""Turns a plan into the arrays that a backend runs, and the logits into tokens.

The only file of the engine that handles arrays. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import Backend, Batch, Draw, Drawn, Forward
from camelid.errors import BadGrammar, RequestsFailed

from .plan import Chunk, Plan


class Executor:
    """A model on a backend whose pages are open."""

    def __init__(self, model: Forward, backend: Backend) -> None:
        self._model = model
        self._backend = backend

    def run(self, plan: Plan) -> list[Drawn]:
        """Compute the plan's tokens; return one drawn token for each of `plan.drawing`.

        Raises BrokenLogits, whose rows count `plan.drawing`, RequestsFailed for an answer that cannot be kept to its
        grammar, and whatever the backend raises. A backend with a queue of its own computes while masks are made.
        """
        logits = self._backend.run(self._model, to_batch(plan))
        draws = [draw for chunk in plan.chunks for draw in _draws(chunk)]
        return self._backend.sample(logits, draws) if draws else []


def to_batch(plan: Plan) -> Batch:
    """Return the arrays of a plan that has at least one chunk."""
    chunks = plan.chunks
    ends = list(accumulate(chunk.num_rows for chunk in chunks))
    page_table = np.zeros((len(chunks), max(len(chunk.sequence.pages) for chunk in chunks)), np.int32)
    for row, chunk in zip(page_table, chunks, strict=True):
        row[: len(chunk.sequence.pages)] = chunk.sequence.pages
    return Batch(
        ids=np.concatenate([_ids(chunk) for chunk in chunks]),
        positions=np.concatenate([np.arange(c.start, c.start + c.num_rows, dtype=np.int32) for c in chunks]),
        row_starts=np.array([0, *ends], np.int32),
        page_table=page_table,
        wanted=np.concatenate(
            [np.arange(end - c.num_wanted, end, dtype=np.int32) for c, end in zip(chunks, ends, strict=True)]
        ),
        page_copies=np.array(plan.page_copies, np.int32).reshape(-1, 2),
        adapters=_adapters(chunks),
    )


def _adapters(chunks: Sequence[Chunk]) -> NDArray[np.int32] | None:
    """Return the number of each sequence's adapter, None if there is none."""
    numbers = [chunk.sequence.adapter for chunk in chunks]
    return np.array(numbers, np.int32) if any(numbers) else None


def _draws(chunk: Chunk) -> list[Draw]:
    """Return what is asked of the rows that are wanted: scores first, then tokens."""
    sequence = chunk.sequence
    scores = sequence.score_draws(chunk.num_scored) if chunk.num_scored else []
    try:
        return [*scores, *(sequence.draws(chunk.guess) if chunk.num_draws else ())]
    except BadGrammar as error:
        raise RequestsFailed((sequence.request.id,), error.message) from error


def _ids(chunk: Chunk) -> NDArray[np.int32]:
    own = chunk.sequence.ids[chunk.start : chunk.start + chunk.num_tokens]
    return np.array([*own, *chunk.guess], np.int32)
