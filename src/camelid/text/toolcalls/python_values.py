"""Values and keyword arguments as Python writes them: `name="x", days=[1, 2], options={"deep": True}`.

For the calls that models write like Python's. Nothing is evaluated, and Python's own parser is not asked: it warns,
it has limits of its own, and it reads far more than a value. JSON's spellings (`true`, `null`) are read, too.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_STRING = re.compile(r""""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'""", re.DOTALL)
_WORD = re.compile(r"""[^\s"',()\[\]{}:=]+""")
_NAME = re.compile(r"\s*(\w+)\s*=(?!=)\s*")
_SPACE = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}
_CONSTANTS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_CLOSING = {"[": "]", "(": ")", "{": "}"}
MAX_DEPTH = 64


class NoValue(ValueError):
    """The text writes no value."""


def keyword_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments that `a=1, b="x"` writes, None if it writes none."""
    reader, arguments = _Reader(text), dict[str, Any]()
    try:
        while not reader.is_at_end():
            named = _NAME.match(text, reader.at)
            if named is None:
                return None
            reader.at = named.end()
            arguments[named[1]] = reader.value(0)
            if not reader.take(",") and not reader.is_at_end():
                return None
    except (NoValue, ValueError):  # the second: a number of more digits than Python turns into one
        return None
    return arguments


class _Reader:
    """A place in a text. Every method reads what is there, and raises NoValue where it is something else."""

    def __init__(self, text: str) -> None:
        self.at = 0
        self._text = text

    def is_at_end(self) -> bool:
        self._skip()
        return self.at == len(self._text)

    def take(self, sign: str) -> bool:
        """Pass over a sign, and the white space before it, if it is there."""
        self._skip()
        if not self._text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def value(self, depth: int) -> Any:
        """Read a string, a number, a constant, a list, a tuple (as a list), a mapping or a bare word."""
        if depth > MAX_DEPTH:
            raise NoValue
        self._skip()
        sign = self._text[self.at : self.at + 1]
        if sign in ("[", "("):
            self.at += 1
            return self._list(_CLOSING[sign], depth)
        if sign == "{":
            self.at += 1
            return self._mapping(depth)
        return self._string() if sign in ('"', "'") else self._word()

    def _list(self, closing: str, depth: int) -> list[Any]:
        values: list[Any] = []
        while not self.take(closing):
            values.append(self.value(depth + 1))
            self._separate(closing)
        return values

    def _mapping(self, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not self.take("}"):
            key = self.value(depth + 1)
            if not isinstance(key, str) or not self.take(":"):
                raise NoValue
            values[key] = self.value(depth + 1)
            self._separate("}")
        return values

    def _separate(self, closing: str) -> None:
        if not self.take(",") and not self._is_next(closing):
            raise NoValue

    def _is_next(self, sign: str) -> bool:
        self._skip()
        return self._text.startswith(sign, self.at)

    def _string(self) -> str:
        matched = _STRING.match(self._text, self.at)
        if matched is None:
            raise NoValue
        self.at = matched.end()
        inner = matched[1] if matched[1] is not None else matched[2]
        return _ESCAPE.sub(_unescaped, inner)

    def _word(self) -> Any:
        matched = _WORD.match(self._text, self.at)
        if matched is None:
            raise NoValue
        self.at = matched.end()
        word = matched.group()
        return _CONSTANTS[word] if word in _CONSTANTS else _number_or_word(word)

    def _skip(self) -> None:
        matched = _SPACE.match(self._text, self.at)
        self.at = matched.end() if matched else self.at


def _number_or_word(word: str) -> Any:
    try:
        return json.loads(word, parse_constant=_refuse)
    except json.JSONDecodeError:
        return word


def _refuse(constant: str) -> NoReturn:
    raise NoValue(f"{constant} is no JSON")


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(escape[3], escape[3])
