"""Texts become vectors: hidden states, pooled and brought to length 1, computed between the engine's other steps.

Apart from the scheduler because nothing is drawn here and nothing goes on: a text is read once, and what it held is
given back. Pages come out of the same pool; a text takes all of its pages before its first step, so it never has to
be stopped halfway.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import Array, Backend, Batch, Ops
from camelid.errors import ContextOverflow, InvalidRequest, OutOfMemory, Overloaded, RequestsFailed
from camelid.models.spec import ModelSpec, Pooling

from .pages import PagePool
from .request import Embedded, EmbedRequest
from .sequence import pages_for
from .settings import EngineSettings

RETRY_S = 1.0
SHORTEST = 1e-12  # a vector with less than this length has no direction, and stays as it is
Floats = NDArray[np.float64]


class Encodes(Protocol):
    """A model that gives hidden states."""

    @property
    def spec(self) -> ModelSpec:
        """The architecture's numbers."""

    def hidden(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return their last hidden states: (T, dim)."""

    def scores(self, ops: Ops, batch: Batch) -> Array:
        """Return what a classifier makes of the first token of each sequence: (S, labels)."""


@dataclass(frozen=True)
class HiddenStates:
    """A model's hidden states in the place where a backend expects logits."""

    model: Encodes

    def forward(self, ops: Ops, batch: Batch) -> Array:
        """Return hidden states (T, dim), or a classifier's scores (S, labels)."""
        if self.model.spec.pooling is Pooling.RANK:
            return self.model.scores(ops, batch)
        return self.model.hidden(ops, batch)


@dataclass
class _Text:
    """One text on its way. `total` is what has been pooled so far."""

    request: EmbedRequest
    index: int
    total: Floats
    pages: list[int] = field(default_factory=list)
    num_computed: int = 0

    @property
    def ids(self) -> tuple[int, ...]:
        return self.request.texts[self.index]

    @property
    def num_left(self) -> int:
        return len(self.ids) - self.num_computed


class Embedder:
    """Pools texts on one model. `pool` is None for a model that keeps nothing in pages: it reads texts whole."""

    def __init__(self, model: Encodes, backend: Backend, settings: EngineSettings, pool: PagePool | None) -> None:
        self._forward = HiddenStates(model)
        self._backend = backend
        self._settings = settings
        self._pool = pool
        self._spec = model.spec
        self._pooling = model.spec.pooling or Pooling.LAST
        self._waiting: deque[_Text] = deque()
        self._running: list[_Text] = []  # have their pages
        self._vectors: dict[str, list[NDArray[np.float32] | None]] = {}
        self.num_texts = 0  # that were pooled

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return bool(self._vectors)

    @property
    def is_starved(self) -> bool:
        """Whether a text waits for pages that others hold."""
        return bool(self._waiting) and not self._running

    def submit(self, request: EmbedRequest) -> None:
        """Queue the texts of a request. Raises ContextOverflow, InvalidRequest, Overloaded."""
        self._check(request)
        if len(self._vectors) >= self._settings.max_waiting + self._settings.max_sequences:
            raise Overloaded(f"{len(self._vectors)} requests for embeddings wait already", retry_after_s=RETRY_S)
        self._vectors[request.id] = [None] * len(request.texts)
        self._waiting.extend(_Text(request, index, np.zeros(self._spec.dim)) for index in range(len(request.texts)))

    def abort(self, request_id: str) -> None:
        """Forget a request and free what it holds; one that is unknown is fine."""
        if self._vectors.pop(request_id, None) is None:
            return
        self._waiting = deque(text for text in self._waiting if text.request.id != request_id)
        for text in [text for text in self._running if text.request.id == request_id]:
            self._give_back(text)

    def step(self) -> list[Embedded]:
        """Read some more tokens, at most as many as one step may have; return the requests that are complete now.

        Raises RequestsFailed where that does not fit into memory: the request with the most tokens in it is gone.
        """
        self._start_texts()
        chunks = self._chunks()
        if not chunks:
            return []
        try:
            rows = np.asarray(self._backend.run(self._forward, self._batch(chunks)))  # some keep them on a device
        except OutOfMemory as error:
            request_id = max(chunks, key=lambda chunk: chunk[1])[0].request.id
            self.abort(request_id)
            raise RequestsFailed((request_id,), f"out of memory: {error.message}") from error
        complete = [self._take(text, count, part) for (text, count), part in self._parts(chunks, rows)]
        return [found for found in complete if found is not None]

    def _check(self, request: EmbedRequest) -> None:
        settings = self._settings
        if not request.texts or request.id in self._vectors:
            raise InvalidRequest("a request for embeddings needs an id of its own and at least one text", field="input")
        if request.seconds and len(request.seconds) != len(request.texts):
            raise InvalidRequest("each pair needs a place where its second text begins", field="input")
        for ids in request.texts:
            if not ids:
                raise InvalidRequest("a text must have at least one token", field="input")
            if len(ids) > settings.context_length:
                raise ContextOverflow(len(ids), settings.context_length, what="the input")
            if not 0 <= min(ids) <= max(ids) < settings.vocabulary_size:
                bound = settings.vocabulary_size - 1
                raise InvalidRequest(f"input must hold token ids from 0 to {bound}, got {max(ids)}", field="input")

    def _start_texts(self) -> None:
        """Give waiting texts their pages, in order, as long as there are tokens left in the step and pages."""
        budget = self._settings.max_batch_tokens - sum(text.num_left for text in self._running)
        while self._waiting and (budget > 0 or not self._running):
            text = self._waiting[0]
            num_pages = pages_for(len(text.ids))
            if self._pool is not None and self._pool.num_available < num_pages:
                return
            text.pages = self._pool.take(num_pages) if self._pool is not None else []
            self._running.append(self._waiting.popleft())
            budget -= len(text.ids)

    def _chunks(self) -> list[tuple[_Text, int]]:
        """Return which texts are read now and how many tokens of each; a model without pages reads them whole."""
        budget = self._settings.max_batch_tokens
        chunks: list[tuple[_Text, int]] = []
        for text in self._running:
            if budget <= 0 or (self._pool is None and chunks and text.num_left > budget):
                break
            count = text.num_left if self._pool is None else min(text.num_left, budget)
            chunks.append((text, count))
            budget -= count
        return chunks

    def _batch(self, chunks: list[tuple[_Text, int]]) -> Batch:
        counts = [count for _, count in chunks]
        table = np.zeros((len(chunks), max(max(len(text.pages) for text, _ in chunks), 1)), np.int32)
        for row, (text, _) in zip(table, chunks, strict=True):
            row[: len(text.pages)] = text.pages
        parts = [(text.num_computed, text.num_computed + count, text.ids) for text, count in chunks]
        return Batch(
            ids=np.concatenate([np.array(ids[start:end], np.int32) for start, end, ids in parts]),
            positions=np.concatenate([np.arange(start, end, dtype=np.int32) for start, end, _ in parts]),
            row_starts=np.cumsum([0, *counts]).astype(np.int32),
            page_table=table,
            wanted=np.empty(0, np.int32),
            segments=np.concatenate([_segments(text, count) for text, count in chunks]),
        )

    def _parts(self, chunks: list[tuple[_Text, int]], rows: Floats) -> list[tuple[tuple[_Text, int], Floats]]:
        """Cut the rows of a step into those of each text; scores have one row for each."""
        if self._pooling is Pooling.RANK:
            return list(zip(chunks, np.split(rows, len(chunks)), strict=True))
        ends = np.cumsum([count for _, count in chunks])[:-1]
        return list(zip(chunks, np.split(rows, ends), strict=True))

    def _take(self, text: _Text, count: int, rows: Floats) -> Embedded | None:
        """Pool the rows of a text; return its request if that completes it."""
        text.total = pooled(self._pooling, text.total, rows, is_first=text.num_computed == 0)
        text.num_computed += count
        if text.num_left:
            return None
        self._give_back(text)
        self.num_texts += 1
        vectors = self._vectors[text.request.id]
        vectors[text.index] = finished(self._pooling, text.total, len(text.ids))
        if any(vector is None for vector in vectors):
            return None
        del self._vectors[text.request.id]
        return Embedded(text.request.id, tuple(vector.tobytes() for vector in vectors if vector is not None))

    def _give_back(self, text: _Text) -> None:
        self._running.remove(text)
        if self._pool is not None:
            self._pool.give_back(text.pages)
        text.pages = []


def _segments(text: _Text, count: int) -> NDArray[np.int32]:
    """Return for each of the next tokens whether it belongs to the second text of a pair."""
    seconds = text.request.seconds
    begin = seconds[text.index] if seconds else len(text.ids)
    return (np.arange(text.num_computed, text.num_computed + count) >= begin).astype(np.int32)


def pooled(pooling: Pooling, total: Floats, rows: Floats, *, is_first: bool) -> Floats:
    """Return what is pooled of a text with the hidden states `rows` of its next tokens: (dim,).

    A mean is summed token by token, so it does not depend on how the text was cut into steps.
    """
    if pooling is Pooling.MEAN:
        whole = np.concatenate([total[None], rows.astype(np.float64)])
        return np.asarray(np.add.accumulate(whole, axis=0)[-1])
    if pooling is Pooling.LAST:
        return np.asarray(rows[-1], np.float64)
    return np.asarray(rows[0], np.float64) if is_first else total


def finished(pooling: Pooling, total: Floats, num_tokens: int) -> NDArray[np.float32]:
    """Return the vector of a text: of length 1, unless it is a classifier's scores, which stay as they are."""
    if pooling is Pooling.RANK:
        return total.astype(np.float32)
    mean = total / num_tokens if pooling is Pooling.MEAN else total
    length = float(np.sqrt(np.sum(mean * mean)))
    return (mean / length if length > SHORTEST else mean).astype(np.float32)
