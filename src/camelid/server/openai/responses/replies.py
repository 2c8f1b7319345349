"""A growing response as bytes: whole, or as the named and numbered events of a stream. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from camelid.types import Event, Finished

from ...errors import Problem
from ...sse import BEAT, MEDIA_TYPE, line_safe
from .growing import Change, GrowingResponse

encode = msgspec.json.encode
Keep = Callable[[bytes], None]  # takes the complete response


class ResponseReply:
    """A response that is sent whole."""

    def __init__(self, growing: GrowingResponse, keep: Keep) -> None:
        self._growing, self._keep = growing, keep

    def feed(self, event: Event) -> None:
        """Take one event."""
        for _ in self._growing.feed(event):
            pass

    def body(self) -> bytes:
        """Return the response, once all events are in."""
        body = encode(self._growing.body())
        self._keep(body)
        return body


class ResponseStream:
    """The events of a response, each with its name and its number. The last one holds the whole response."""

    media_type = MEDIA_TYPE
    beat = BEAT

    def __init__(self, growing: GrowingResponse, keep: Keep) -> None:
        self._growing, self._keep = growing, keep
        self._number = 0

    def feed(self, event: Event) -> bytes:
        """Return the events that `event` makes."""
        written = self._written(self._growing.feed(event))
        if isinstance(event, Finished):  # before the client knows, who may come back to it at once
            self._keep(encode(self._growing.body()))
        return written

    def finish(self) -> bytes:
        """Return what comes after the last event: nothing, it was the end."""
        return b""

    def fail(self, problem: Problem) -> bytes:
        """Return the events that end a stream that has gone wrong."""
        return self._written(self._growing.fail(problem))

    def _written(self, changes: Iterable[Change]) -> bytes:
        return b"".join(self._frame(change) for change in changes)

    def _frame(self, change: Change) -> bytes:
        number, self._number = self._number, self._number + 1
        payload = encode({"type": change.kind, "sequence_number": number, **change.values})
        return b"event: " + change.kind.encode() + b"\ndata: " + line_safe(payload) + b"\n\n"


def deleted(identity: str) -> bytes:
    """Return what is said of a response that was forgotten."""
    return encode({"id": identity, "object": "response", "deleted": True})


def counted(num_tokens: int) -> bytes:
    """Return what is said of the tokens of a prompt."""
    return encode({"object": "response.input_tokens", "input_tokens": num_tokens})


def item_list(items: Sequence[dict[str, Any]], *, has_more: bool) -> bytes:
    """Return a page of items."""
    ids = [item["id"] for item in items]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return encode({"object": "list", "data": list(items), "has_more": has_more, **ends})
