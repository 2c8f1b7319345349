"""Finds where a JSON object, or a list of Python's calls, ends while its text arrives.

Separate because it must not look at any character twice.
"""

from __future__ import annotations

import re

MAX_DEPTH = 64  # deeper than any argument in use; beyond it the text is no call
MAX_LENGTH = 2**20  # characters


class JsonEnd:
    """Scans one object that begins at `start` of a text that only grows."""

    def __init__(self, start: int, quotes: str = '"', brackets: str = "{}[]") -> None:
        """Begin. `quotes` are what strings may stand in, `brackets` what is counted."""
        self._in_string = {quote: re.compile(rf"[{quote}\\]") for quote in quotes}
        self._outside = re.compile(f"[{re.escape(quotes + brackets)}]")
        self._start = start
        self._position = start
        self._depth = 0
        self._quote = ""  # of the string that is open
        self.is_hopeless = False

    def find(self, text: str) -> int | None:
        """Return the index after the object, None while it has not ended. `is_hopeless` is set when it never will."""
        while (matched := self._next(text)) is not None:
            if not self._pass(text, matched.group(), matched.start()):
                return None
            if self._depth == 0 and not self._quote:
                return self._position
            if self._depth > MAX_DEPTH:
                self.is_hopeless = True
                return None
        self._position = max(self._position, len(text))
        self.is_hopeless = len(text) - self._start > MAX_LENGTH
        return None

    def _next(self, text: str) -> re.Match[str] | None:
        wanted = self._in_string[self._quote] if self._quote else self._outside
        return wanted.search(text, self._position)

    def _pass(self, text: str, sign: str, at: int) -> bool:
        """Take one sign in. Returns False for an escape of which the second character is not there yet."""
        if sign == "\\":
            self._position = at if at + 1 == len(text) else at + 2
            return at + 1 < len(text)
        self._position = at + 1
        if sign in self._in_string:
            self._quote = "" if self._quote else sign
        else:
            self._depth += 1 if sign in "{[(" else -1
        return True
