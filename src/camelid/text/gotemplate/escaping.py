"""`html`, `js` and `urlquery`: text escaped for three places. No prompt needs them; the language has them."""

from __future__ import annotations

import re
from urllib.parse import quote_plus

from .values import encoded

_HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def html(text: str) -> str:
    """Escape text for an HTML page."""
    return re.sub("[\0\"'&<>]", lambda found: _HTML[found.group()], text)


def javascript(text: str) -> str:
    """Escape text for a string in JavaScript."""
    return "".join(_JS.get(character) or _js_character(character) for character in text)


def url_query(text: str) -> str:
    """Escape text for a value in the query of a URL."""
    return quote_plus(encoded(text), safe="~")


def _js_character(character: str) -> str:
    code = ord(character)
    if 0x20 <= code < 0x80 or (code >= 0x80 and character.isprintable()):
        return character
    return f"\\u{code:04X}"
