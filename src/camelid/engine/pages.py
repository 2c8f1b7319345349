"""Who holds which page of the key/value cache, and which pages still hold a prefix that a new sequence can use.

Apart from the scheduler because it is bookkeeping with an invariant of its own: every page is exactly one of free,
held, or idle (held by nobody, its content still findable). It sees page numbers and digests, never tensors, sequences
or ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

DIGEST_BYTES = 32  # a prefix that collides would give one user another one's answer: out of reach even on purpose
ROOT = bytes(DIGEST_BYTES)


def root_of(adapter: str) -> bytes:
    """Return what stands in front of the first page: what one adapter computed is of no use to another."""
    return blake2b(adapter.encode(), digest_size=DIGEST_BYTES, person=b"adapter").digest() if adapter else ROOT


def chain_digest(parent: bytes, ids: bytes) -> bytes:
    """Return the digest of a full page from that of the page before it (`root_of` for the first) and its own ids."""
    return blake2b(parent + ids, digest_size=DIGEST_BYTES).digest()


class PagePool:
    """Pages 0 … num_pages − 1 with the number of holders of each, and a cache of full pages by digest.

    `take` and `share` are undone by `give_back`, once for each. A page that nobody holds any more stays findable if it
    was registered, until it is the one unused for longest and a page is needed.
    """

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self._holders = [0] * num_pages
        self._free = list(range(num_pages - 1, -1, -1))  # a stack: low numbers first
        self._idle: dict[int, None] = {}  # ordered: the page unused for longest comes first
        self._digest_of: dict[int, bytes] = {}
        self._page_of: dict[bytes, int] = {}

    @property
    def num_available(self) -> int:
        """Pages that `take` can give out: free and idle ones."""
        return len(self._free) + len(self._idle)

    @property
    def num_held(self) -> int:
        """Pages that at least one sequence holds."""
        return self.num_pages - self.num_available

    @property
    def num_idle(self) -> int:
        """Pages that nobody holds and whose content can still be found."""
        return len(self._idle)

    def count_idle(self, pages: Iterable[int]) -> int:
        """Return how many of `pages` are idle: by so many does `num_available` fall when they are shared."""
        return sum(page in self._idle for page in pages)

    def take(self, count: int) -> list[int]:
        """Return `count` pages with unknown content and one holder each. At most `num_available` may be asked for."""
        assert count <= self.num_available
        pages = [self._free.pop() if self._free else self._evict() for _ in range(count)]
        for page in pages:
            self._holders[page] = 1
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """Add a holder to each of `pages`, which must be held or idle."""
        for page in pages:
            assert self._holders[page] > 0 or page in self._idle
            self._idle.pop(page, None)
            self._holders[page] += 1

    def give_back(self, pages: Sequence[int]) -> None:
        """Take a holder from each of `pages`, the last page first: it shall be evicted before those it builds on."""
        for page in reversed(pages):
            assert self._holders[page] > 0
            self._holders[page] -= 1
            if self._holders[page] == 0:
                self._rest(page)

    def register(self, page: int, digest: bytes) -> None:
        """Make a full page findable. Where another page has the same content, that one stays the one to be found."""
        if digest not in self._page_of and page not in self._digest_of:
            self._page_of[digest] = page
            self._digest_of[page] = digest

    def find(self, digest: bytes) -> int | None:
        """Return the page, held or idle, that has this content."""
        return self._page_of.get(digest)

    def _rest(self, page: int) -> None:
        if page in self._digest_of:
            self._idle[page] = None
        else:
            self._free.append(page)

    def _evict(self) -> int:
        page = next(iter(self._idle))
        del self._idle[page]
        del self._page_of[self._digest_of.pop(page)]
        return page
