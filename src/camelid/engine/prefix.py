"""Which part of a sequence is already computed, by another choice of its request or by any request before it.

Apart from the scheduler because it answers one question: what can a newcomer take over instead of computing it?
Full pages are shared. A page that is only partly of use is copied, because the newcomer is going to write behind that
part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from camelid.backends.base import PAGE_TOKENS

from .pages import PagePool
from .sequence import Sequence, pages_for


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `num_tokens` positions of a sequence, as they lie in pages of others."""

    pages: tuple[
        int, ...
    ]  # all that hold them; where num_tokens is no multiple of a page, the last one is to be copied
    num_tokens: int
    is_cached: bool  # found by its content, not taken from another choice of the same request

    @property
    def num_shared(self) -> int:
        """Pages that are taken over as they are."""
        return self.num_tokens // PAGE_TOKENS


def find_prefix(sequence: Sequence, pool: PagePool, running: Iterable[Sequence]) -> Prefix:
    """Return the longest prefix there is. It never covers the last token, whose logits are wanted."""
    pages = cached_pages(sequence, pool, sequence.num_reusable // PAGE_TOKENS)
    num_tokens = min(len(pages) * PAGE_TOKENS, sequence.num_tokens - 1)
    sibling = _forkable(sequence, running)
    if sibling is None or sequence.fork_point <= num_tokens or sequence.num_to_score:
        return Prefix(tuple(pages), num_tokens, True)
    return Prefix(tuple(sibling.pages[: pages_for(sequence.fork_point)]), sequence.fork_point, False)


def cached_pages(sequence: Sequence, pool: PagePool, end: int) -> list[int]:
    """Return what the cache has of the sequence's pages, from the first one it has not computed up to `end`."""
    pages: list[int] = []
    for index in range(sequence.num_computed // PAGE_TOKENS, end):
        page = pool.find(sequence.digest(index))
        if page is None:
            break
        pages.append(page)
    return pages


def attach(sequence: Sequence, prefix: Prefix, pool: PagePool) -> None:
    """Give a sequence that has no pages the prefix, and the page that a copy needs."""
    shared = prefix.pages[: prefix.num_shared]
    pool.share(prefix.pages)  # the source of a copy is held until the copy is made
    sequence.pages = list(shared)
    sequence.num_computed = prefix.num_tokens
    if len(shared) < len(prefix.pages):
        sequence.pages += pool.take(1)
        sequence.page_copy = (prefix.pages[-1], sequence.pages[-1])


def _forkable(sequence: Sequence, running: Iterable[Sequence]) -> Sequence | None:
    """Return a running choice of the same request whose pages hold the shared prompt now, not only after a copy."""
    for other in running:
        if other.request is sequence.request and other.num_computed >= sequence.fork_point and other.page_copy is None:
            return other
    return None
