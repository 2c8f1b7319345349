"""Splits a model's output into text and tool calls while it arrives.

Text is passed on as soon as it is certain that it is no part of a call; what begins like a call and is none is passed
on as the text that it is. However the output is cut into pushes, the same pieces come out (texts joined). The splitter
knows the names of the tools and nothing of ids or APIs.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum

from ..tokenizer import Tokenizer
from .forms import CODE_INTERPRETER, MAX_SPACE, built_in_call, json_arguments, json_call, may_be_built_in, may_be_call
from .json_end import JsonEnd
from .lists import end_of_list, list_calls, may_be_list
from .pieces import Piece, TextPiece, ToolCallPiece

PYTHON_TAG = "<|python_tag|>"
_FUNCTION_TAG = "<function="
_CLOSING_TAG = "</function>"
_TAGS = (PYTHON_TAG, _FUNCTION_TAG)

_OPENING = re.compile(rf"(?P<tag>{re.escape(PYTHON_TAG)})|(?P<function>{_FUNCTION_TAG})|[\{{\[]")
_FUNCTION_HEAD = re.compile(rf"{_FUNCTION_TAG}([^>\s]*)(>?)\s{{0,{MAX_SPACE}}}(\{{?)")
_SEPARATORS = ("", ";", ",")  # what may stand between calls, beside white space


def shown_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the control tokens that the detokenizer must spell out for the splitter: the tag, where there is one."""
    tag = tokenizer.control.get(PYTHON_TAG)
    return frozenset() if tag is None else frozenset((tag.id,))


class _State(Enum):
    """What the buffer begins with."""

    TEXT = "text"  # text, or white space and separators before a call
    OBJECT = "object"  # at `_at`, a JSON object that may be a call or a tagged call's arguments
    CODE = "code"  # what follows the tag `<|python_tag|>`, which ends with the message


class ToolCallSplitter:
    """Splits one answer. Push text as it comes, and finish once."""

    def __init__(self, tools: Collection[str], *, has_grammar: bool = False) -> None:
        """Watch for calls of these tools; a call of any other name is text.

        has_grammar: the answer is held to `call_grammar`. Then a call has its one form, an object with arguments, and
        what looks like another form is an answer that may look so.
        """
        self._tools = frozenset(tools)
        self._has_grammar = has_grammar
        self._buffer = ""
        self._state = _State.TEXT
        self._follows = "line"  # what came before the buffer: the beginning of a line, text within one, or a call
        self._is_tagged = False  # the tag came just before
        self._at = 0  # where in the buffer the candidate begins
        self._brace = 0  # and where its object does
        self._is_list = False  # the candidate is a list of calls
        self._name: str | None = None  # of a call whose arguments the object would be
        self._may_be_call: bool | None = None
        self._end = JsonEnd(0)
        self._awaits_closing = False  # a tagged call has just ended, its closing tag may come
        self._pieces: list[Piece] = []

    def push(self, text: str) -> list[Piece]:
        """Return the pieces that are certain now."""
        self._buffer += text
        while self._advance():
            pass
        return self._take()

    def finish(self) -> list[Piece]:
        """Return the rest: a call that lacks its end is text."""
        is_code = self._state is _State.CODE or self._is_tagged
        call = built_in_call(self._buffer, self._tools) if is_code else None
        if call is not None:
            self._pieces.append(ToolCallPiece(*call))
        elif not self._merely_separates(len(self._buffer)):
            self._say(self._buffer)
        self._buffer = ""
        return self._take()

    def _take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _advance(self) -> bool:
        """Decide about the beginning of the buffer. Returns False when more text is needed for that."""
        if self._state is _State.CODE:
            return self._advance_in_code()
        if self._state is _State.OBJECT:
            return self._advance_in_object()
        return self._advance_in_text()

    def _advance_in_text(self) -> bool:
        if self._awaits_closing and not self._pass_closing_tag():
            return False
        opening = self._next_opening()
        if opening is None:
            self._release(self._certain_text())
            return False
        if opening["tag"]:
            self._say_before(opening.start())
            self._buffer = self._buffer[opening.end() :]
            self._state, self._is_tagged, self._follows = _State.CODE, True, "line"
            return True
        if opening["function"]:
            return self._advance_in_function_head(opening.start())
        return self._open_object(opening.start(), opening.start(), None)

    def _next_opening(self) -> re.Match[str] | None:
        """Return the next tag, or brace or bracket that begins a line or comes right after a call."""
        for opening in _OPENING.finditer(self._buffer):
            if opening.group() == "[" and self._has_grammar:
                continue
            if opening.group() not in ("{", "[") or self._begins_line(opening.start()):
                return opening
        return None

    def _begins_line(self, start: int) -> bool:
        if self._merely_separates(start):
            return True
        line = self._buffer[max(start - MAX_SPACE, 0) : start].rstrip(" \t")
        start = max(start - MAX_SPACE, 0) + len(line)
        return self._buffer[start - 1] == "\n" if start else self._follows == "line"

    def _pass_closing_tag(self) -> bool:
        """Drop the closing tag if it is there. Returns False while it may still come."""
        rest = self._buffer.lstrip()
        if len(self._buffer) - len(rest) <= MAX_SPACE:
            if _CLOSING_TAG.startswith(rest) and rest != _CLOSING_TAG:
                return False
            self._buffer = rest[len(_CLOSING_TAG) :] if rest.startswith(_CLOSING_TAG) else self._buffer
        self._awaits_closing = False
        return True

    def _advance_in_function_head(self, start: int) -> bool:
        """Decide about `<function=name>{`, of which some may be missing yet."""
        head = _FUNCTION_HEAD.match(self._buffer, start)
        assert head is not None, "the opening was found there"
        name, is_closed, brace = head.groups()
        is_whole = head.end() == len(self._buffer)
        if brace and name in self._tools:
            return self._open_object(start, head.start(3), name)
        is_possible = name in self._tools if is_closed else any(tool.startswith(name) for tool in self._tools)
        if is_possible and is_whole:
            self._release(0 if self._merely_separates(start) else self._end_of_text(start))
            return False
        self._refuse(start)
        return True

    def _open_object(self, start: int, brace: int, name: str | None) -> bool:
        """Take what begins at `start` for a call, the object of which begins at `brace`."""
        self._state, self._at, self._brace, self._name = _State.OBJECT, start, brace, name
        self._may_be_call = True if name is not None else None
        self._is_list = self._buffer[brace] == "["
        self._end = end_of_list(brace) if self._is_list else JsonEnd(brace)
        return True

    def _advance_in_object(self) -> bool:
        if self._may_be_call is None:
            may_be = may_be_list if self._is_list else may_be_call
            self._may_be_call = may_be(self._buffer[self._brace :], self._tools)
        if self._may_be_call is None:
            return False
        end = self._end.find(self._buffer) if self._may_be_call else None
        if end is not None:
            calls = self._calls(self._buffer[self._brace : end])
            if calls:
                self._accept(calls, end)
                return True
        elif self._may_be_call and not self._end.is_hopeless:
            return False
        self._refuse(self._at)
        return True

    def _calls(self, text: str) -> list[ToolCallPiece]:
        """Return the calls that a complete object or list makes, none if it is text."""
        if self._is_list:
            return [ToolCallPiece(*call) for call in list_calls(text, self._tools) or ()]
        if self._name is not None:
            arguments = json_arguments(text)
            return [] if arguments is None else [ToolCallPiece(self._name, arguments)]
        call = json_call(text, self._tools, needs_arguments=self._has_grammar)
        return [] if call is None else [ToolCallPiece(*call)]

    def _accept(self, calls: list[ToolCallPiece], end: int) -> None:
        self._say_before(self._at)
        self._pieces += calls
        self._buffer = self._buffer[end:]
        self._state, self._follows, self._is_tagged = _State.TEXT, "call", False
        self._awaits_closing = self._name is not None

    def _refuse(self, start: int) -> None:
        """Take what begins at `start` for text after all, and look again from the next character on."""
        if self._is_tagged and CODE_INTERPRETER in self._tools:
            self._state = _State.CODE
            self._is_tagged = False
            return
        self._state, self._is_tagged = _State.TEXT, False
        self._release(start + 1)

    def _advance_in_code(self) -> bool:
        if self._is_tagged and self._buffer.lstrip().startswith(("{", "[")):
            self._state = _State.TEXT
            return True
        if self._buffer.strip() and not may_be_built_in(self._buffer, self._tools):
            self._state, self._is_tagged = _State.TEXT, False
            return True
        return False

    def _certain_text(self) -> int:
        """Return how much is certainly text: all but the white space and the beginning of a tag at the end."""
        begun = (k for tag in _TAGS for k in range(1, len(tag)) if self._buffer.endswith(tag[:k]))
        end = len(self._buffer) - max(begun, default=0)
        return 0 if self._merely_separates(end) else self._end_of_text(end)

    def _end_of_text(self, end: int) -> int:
        """Return where the text up to `end` ends without its white space."""
        start = max(end - MAX_SPACE, 0)
        return start + len(self._buffer[start:end].rstrip())

    def _release(self, length: int) -> None:
        """Pass the first `length` characters of the buffer on as text."""
        if length:
            self._say(self._buffer[:length])
            self._buffer = self._buffer[length:]

    def _say_before(self, start: int) -> None:
        """Pass on the text before a call, without the white space and separators that lead to it."""
        if not self._merely_separates(start):
            self._say(self._buffer[: self._end_of_text(start)])

    def _merely_separates(self, end: int) -> bool:
        """Tell whether the buffer up to `end` only stands between two calls."""
        return self._follows == "call" and end <= MAX_SPACE and self._buffer[:end].strip() in _SEPARATORS

    def _say(self, text: str) -> None:
        if not text:
            return
        match self._pieces:
            case [*_, TextPiece(said)]:
                self._pieces[-1] = TextPiece(said + text)
            case _:
                self._pieces.append(TextPiece(text))
        self._follows = "line" if text.endswith("\n") else "text"
