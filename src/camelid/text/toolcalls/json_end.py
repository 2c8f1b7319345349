"""Finds where a JSON object ends while its text arrives. Separate because it must not look at any character twice."""

from __future__ import annotations

import re

MAX_DEPTH = 64  # deeper than any argument in use; beyond it the text is no call
MAX_LENGTH = 2**20  # characters

_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')


class JsonEnd:
    """Scans one object that begins at `start` of a text that only grows."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._position = start
        self._depth = 0
        self._is_in_string = False
        self.is_hopeless = False

    def find(self, text: str) -> int | None:
        """Return the index after the object, None while it has not ended. `is_hopeless` is set when it never will."""
        while (matched := (_IN_STRING if self._is_in_string else _OUTSIDE).search(text, self._position)) is not None:
            if not self._pass(text, matched.group(), matched.start()):
                return None
            if self._depth == 0 and not self._is_in_string:
                return self._position
            if self._depth > MAX_DEPTH:
                self.is_hopeless = True
                return None
        self._position = max(self._position, len(text))
        self.is_hopeless = len(text) - self._start > MAX_LENGTH
        return None

    def _pass(self, text: str, sign: str, at: int) -> bool:
        """Take one sign in. Returns False for an escape of which the second character is not there yet."""
        if sign == "\\":
            self._position = at if at + 1 == len(text) else at + 2
            return at + 1 < len(text)
        self._position = at + 1
        if sign == '"':
            self._is_in_string = not self._is_in_string
        else:
            self._depth += 1 if sign in "{[" else -1
        return True
