"""Server-sent events and JSON text as bytes. Pure; used by every dialect that streams this way."""

from __future__ import annotations

import re

import msgspec

MEDIA_TYPE = "text/event-stream"
BEAT = b": still working\n\n"  # a comment: clients drop it, gateways see traffic
DONE = b"data: [DONE]\n\n"

# Line ends to Unicode (U+0085, U+2028, U+2029 as UTF-8), but not to server-sent events: clients that split lines with
# str.splitlines would break an event at them.
_LINE_ENDS = re.compile(b"\xc2\x85|\xe2\x80[\xa8\xa9]")


def json_text(text: str) -> bytes:
    """Return `text` as a JSON string that no line splitter breaks."""
    encoded = msgspec.json.encode(text)
    return encoded if text.isascii() else line_safe(encoded)


def line_safe(payload: bytes) -> bytes:
    """Return JSON with every character written out that a line splitter could break it at."""
    return _LINE_ENDS.sub(lambda end: f"\\u{ord(end[0].decode()):04x}".encode(), payload)


def frame(payload: bytes) -> bytes:
    """Return one event. `payload` is JSON and so has no raw line ends."""
    return b"data: " + payload + b"\n\n"
