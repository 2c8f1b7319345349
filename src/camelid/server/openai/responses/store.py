"""Responses that clients may come back to: in memory, bounded by number and size, gone with the process.

The one that was not asked for the longest makes room. Each keeps its whole conversation, so that forgetting one breaks
no other. Knows no JSON shapes: what is kept was written by others.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from camelid.types import Message


@dataclass(frozen=True)
class Kept:
    """A response, who asked for it, the items that were its input, and the conversation up to and with its answer.

    Instructions are not part of the conversation: each request brings its own.
    """

    id: str
    owner: str
    body: bytes
    items: tuple[dict[str, Any], ...]
    conversation: tuple[Message, ...]

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes; what it shares with others is counted with each."""
        texts = sum(len(message.content) + 256 for message in self.conversation)
        calls = sum(len(call.arguments) for message in self.conversation for call in message.tool_calls)
        return 2 * len(self.body) + 2 * (texts + calls)


class ResponseStore:
    """The responses of one server. Used from its event loop only."""

    def __init__(self, max_responses: int, max_bytes: int) -> None:
        self._max_responses, self._max_bytes = max_responses, max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the one that was not asked for the longest first
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, kept: Kept) -> None:
        """Keep a response, and forget old ones where there is no room. One that is too large alone is not kept."""
        if kept.size_bytes > self._max_bytes:
            return
        self._kept[kept.id] = kept
        self._size_bytes += kept.size_bytes
        while len(self._kept) > self._max_responses or self._size_bytes > self._max_bytes:
            self._size_bytes -= self._kept.popitem(last=False)[1].size_bytes

    def get(self, identity: str, owner: str) -> Kept | None:
        """Return a response to the one who asked for it; None for all others, and where there is none."""
        kept = self._kept.get(identity)
        if kept is None or kept.owner != owner:
            return None
        self._kept.move_to_end(identity)
        return kept

    def remove(self, identity: str, owner: str) -> bool:
        """Forget a response. Return whether there was one of this owner."""
        kept = self.get(identity, owner)
        if kept is None:
            return False
        self._size_bytes -= self._kept.pop(identity).size_bytes
        return True
