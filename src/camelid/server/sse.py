"""Server-sent events and JSON text as bytes. Pure; used by every dialect that streams this way."""

from __future__ import annotations

import re

import msgspec

MEDIA_TYPE = "text/event-stream"
BEAT = b": still working\n\n"  # a comment: clients drop it, gateways see traffic
DONE = b"data: [DONE]\n\n"

# Line ends to Unicode, but not to server-sent events: clients that split lines with str.splitlines would break an event
# at them.
_LINE_ENDS = re.compile("[\u0085\u2028\u2029]")


def json_text(text: str) -> bytes:
    """Return `text` as a JSON string that no line splitter breaks."""
    if not text.isascii():
        found = _LINE_ENDS.search(text)
        if found:
            return _LINE_ENDS.sub(lambda end: f"\\u{ord(end[0]):04x}", msgspec.json.encode(text).decode()).encode()
    return msgspec.json.encode(text)


def frame(payload: bytes) -> bytes:
    """Return one event. `payload` is JSON and so has no raw line ends."""
    return b"data: " + payload + b"\n\n"
