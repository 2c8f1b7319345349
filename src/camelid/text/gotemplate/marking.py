"""Functions and marks: how a template's function looks at text from outside without setting free what is in it.

Text from outside has private characters where a control token could be spelled (`text.prompt` tells why). A function
that asks what a character is must see the real one, and what it makes must be marked again.
"""

from __future__ import annotations

from collections.abc import Callable

from ..prompt import Marks


class Marked:
    """The marks of one prompt, as functions use them."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def is_in(self, text: str) -> bool:
        """Tell whether a text has marks in it, so certainly comes from outside."""
        return not text.isascii() and any(mark in text for mark in self._marks.private)

    def plain(self, text: str) -> str:
        """Return a text as it is meant, for questions about it."""
        return self._marks.unmark(text) if self.is_in(text) else text

    def seal(self, text: str) -> str:
        """Return a text that was made of text from outside so that it spells no control token."""
        return self._marks.mark(text)

    def change(self, text: str, change: Callable[[str], str]) -> str:
        """Return what `change` makes of a text as it is meant, sealed where the text came from outside."""
        return self.seal(change(self._marks.unmark(text))) if self.is_in(text) else change(text)
