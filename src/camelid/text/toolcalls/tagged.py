"""Tool calls that begin with a tag of their own, as the template of a model writes them: `<tool_call>`, `[TOOL_CALLS]`.

What stands before the tag is text. After it the buffer is searched for JSON objects that call a tool, and for objects
of arguments that follow a tool's name; if there are calls, everything around them is dropped, otherwise it is text
after all. Ollama finds names anywhere in the buffer; here a name must be the value of a key, or stand just before the
object, so that an argument that mentions a tool calls nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from .forms import parsed_object, written
from .json_end import JsonEnd
from .pieces import Piece, TextPiece, ToolCallPiece

_WORD = re.compile(r"[\w.:/-]+")
_MAX_DEPTH = 4  # of lists and objects around a call


class TaggedCallSplitter:
    """Splits one answer. Push text as it comes, and finish once."""

    def __init__(self, tag: str, tools: Collection[str]) -> None:
        """Watch for `tag`, which is not empty. One that is a bracket only counts at the beginning of an answer."""
        self._tag = tag
        self._tools = frozenset(tools)
        self._must_begin = tag == "["
        self._text = ""  # before the tag, as far as it may belong to it
        self._after: str | None = None  # the tag and what follows it, once it has come
        self._is_text = False  # no call can come any more
        self._at = 0  # where in `_after` the next object is looked for
        self._name_from = 0  # and from where on a name may stand before it
        self._end: JsonEnd | None = None
        self._num_calls = 0

    def push(self, text: str) -> list[Piece]:
        """Return the pieces that are certain now."""
        if self._is_text:
            return _said(text)
        if self._after is not None:
            self._after += text
            return list(self._calls())
        self._text += text
        start = self._text.find(self._tag)
        if self._must_begin and self._text.strip() and not self._text.lstrip().startswith(self._tag):
            self._is_text = True
            return _said(self._text)
        if start < 0:
            return self._release(len(self._text) - self._overlap())
        before, self._after = self._text[:start], self._text[start:]
        self._at = self._name_from = len(self._tag) if len(self._tag) > 1 else 0
        return [*_said(before.rstrip()), *self._calls()]

    def finish(self) -> list[Piece]:
        """Return the rest: what follows the tag is text if it calls nothing."""
        if self._is_text or self._num_calls:
            return []
        rest = self._text if self._after is None else self._after
        self._text, self._after, self._is_text = "", None, True
        return _said(rest)

    def _release(self, length: int) -> list[Piece]:
        """Pass on text that is certainly before the tag; white space that leads to it is not."""
        length = len(self._text[:length].rstrip())
        said, self._text = self._text[:length], self._text[length:]
        return _said(said)

    def _overlap(self) -> int:
        """Return how much of the end of the text may be the beginning of the tag."""
        return max((k for k in range(1, len(self._tag)) if self._text.endswith(self._tag[:k])), default=0)

    def _calls(self) -> Iterator[Piece]:
        """Yield the calls in the objects that are complete now."""
        assert self._after is not None, "only after the tag"
        while True:
            if self._end is None:
                start = self._after.find("{", self._at)
                if start < 0:
                    self._at = len(self._after)
                    break
                self._at, self._end = start, JsonEnd(start)
            end = self._end.find(self._after)
            if end is None:
                self._is_text |= self._end.is_hopeless and not self._num_calls
                break
            yield from self._called(self._after[self._name_from : self._at], self._after[self._at : end])
            self._at = self._name_from = end
            self._end = None
        if self._is_text or (self._must_begin and not self._num_calls and self._is_closed()):
            self._is_text = True
            yield from _said(self._after)

    def _is_closed(self) -> bool:
        """Tell whether the list that a bracket opened has ended."""
        assert self._after is not None, "only after the tag"
        return self._end is None and self._after.find("]", self._name_from) >= 0

    def _called(self, before: str, text: str) -> Iterator[Piece]:
        value = parsed_object(text)
        if value is None:
            return
        found = list(_calls_in(value, self._tools, _MAX_DEPTH))
        named = next((word for word in reversed(_WORD.findall(before)[-3:]) if word in self._tools), None)
        if not found and named is not None:
            found = [(named, _arguments(value) or value)]
        for name, arguments in found:
            self._num_calls += 1
            yield ToolCallPiece(name, written(arguments))


def _calls_in(value: Any, tools: Collection[str], depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and arguments of the calls in a JSON value: objects with a tool's name and arguments."""
    if isinstance(value, dict):
        arguments, name = _arguments(value), value.get("name", value.get("tool_name"))
        if isinstance(name, str) and name in tools and arguments is not None:
            yield name, arguments
            return
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner if depth else ():
        yield from _calls_in(item, tools, depth - 1)


def _arguments(value: dict[str, Any]) -> dict[str, Any] | None:
    for key in ("arguments", "parameters"):
        given = value.get(key)
        given = parsed_object(given) if isinstance(given, str) else given
        if isinstance(given, dict):
            return given
    return None


def _said(text: str) -> list[Piece]:
    return [TextPiece(text)] if text else []
