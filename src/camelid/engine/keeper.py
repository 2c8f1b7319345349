"""Pages of prompts kept beyond the engine's memory: written when they are computed, read when a prompt needs them.

Apart from the scheduler because it moves bytes. Where they are kept is the business of a `PageStore`, which the runtime
brings along; a page that cannot be had is computed, so a store may forget and refuse as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import PAGE_TOKENS, Backend

from .pages import PagePool
from .plan import Chunk
from .sequence import Sequence


class PageStore(Protocol):
    """Contents of pages by the digest of all tokens up to their end (`pages.chain_digest`). It never raises."""

    def has(self, digest: bytes) -> bool:
        """Say whether `load` is worth trying."""

    def load(self, digest: bytes) -> NDArray[np.uint8] | None:
        """Return the content, None where it is not to be had."""

    def save(self, digest: bytes, content: NDArray[np.uint8]) -> None:
        """Keep a content, soon or not at all."""

    def close(self) -> None:
        """Finish what was given to `save`, within seconds."""


class NoStore:
    """Keeps nothing."""

    def has(self, digest: bytes) -> bool:
        """Say no."""
        return False

    def load(self, digest: bytes) -> NDArray[np.uint8] | None:
        """Return nothing."""
        return None

    def save(self, digest: bytes, content: NDArray[np.uint8]) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""


class Keeper:
    """Moves pages between a backend and a store."""

    def __init__(self, backend: Backend, pool: PagePool, store: PageStore) -> None:
        self._backend = backend
        self._pool = pool
        self._store = store
        self._is_idle = isinstance(store, NoStore)

    def fetch(self, sequence: Sequence) -> None:
        """Read the pages that `sequence`, which has none yet, can use and that only the store has."""
        if self._is_idle or sequence.is_fetched:
            return
        sequence.is_fetched = True
        held: list[int] = []
        for index in range(sequence.num_tokens // PAGE_TOKENS):
            digest = sequence.digest(index)
            page = self._pool.find(digest)
            if page is not None:
                self._pool.share([page])
            elif (page := self._read(digest)) is None:
                break
            held.append(page)
        self._pool.give_back(held)  # now they are idle, and are found like any others

    def keep(self, chunks: Iterable[Chunk]) -> None:
        """Save the pages of prompts that are full now that `chunks` are computed."""
        if self._is_idle:
            return
        for chunk in chunks:
            sequence = chunk.sequence
            end = min(chunk.start + chunk.num_tokens, len(sequence.prompt)) // PAGE_TOKENS
            for index in range(sequence.num_kept_pages, end):
                if not self._store.has(sequence.digest(index)):
                    self._store.save(sequence.digest(index), self._backend.read_page(sequence.pages[index]))
            sequence.num_kept_pages = max(end, sequence.num_kept_pages)

    def close(self) -> None:
        """Let the store finish."""
        self._store.close()

    def _read(self, digest: bytes) -> int | None:
        """Return a page, held, with the stored content; None where there is none or no room for it."""
        if not self._store.has(digest) or self._pool.num_available == 0:
            return None
        content = self._store.load(digest)
        if content is None:
            return None
        (page,) = self._pool.take(1)
        self._backend.write_page(page, content)
        self._pool.register(page, digest)
        return page
