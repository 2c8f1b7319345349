"""Values as JSON, written as Go's encoding/json writes it: compact, with `<`, `>` and `&` escaped.

Separate from Python's own writer because every such detail is part of the prompts that models were trained with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from .floats import shortest
from .marking import Marked
from .values import FunctionError, JsonMap, Record, TypeNames, Value, is_list

_ESCAPED = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029\ud800-\udfff]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_json(value: Value, marked: Marked) -> str:
    """Return a value as JSON, as a whole so marked that nothing in it spells a control token."""
    return marked.seal("".join(_pieces(value, marked)))


def _pieces(value: Value, marked: Marked) -> Iterator[str]:
    if isinstance(value, str):
        yield _text(value, marked)
    elif isinstance(value, Record):
        yield from _members(list(value.members()), marked)
    elif isinstance(value, dict):
        yield from _members(list(value.items()) if isinstance(value, JsonMap) else sorted(value.items()), marked)
    elif isinstance(value, TypeNames) and len(value) == 1:
        yield _text(value[0], marked)
    elif is_list(value):
        yield "["
        for index, item in enumerate(value):
            yield "," if index else ""
            yield from _pieces(item, marked)
        yield "]"
    else:
        yield _scalar(value)


def _members(members: list[tuple[str, Value]], marked: Marked) -> Iterator[str]:
    yield "{"
    for index, (key, item) in enumerate(members):
        yield "," if index else ""
        yield _text(key, marked) + ":"
        yield from _pieces(item, marked)
    yield "}"


def _scalar(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return json_float(value)
    return str(value)


def json_float(value: float) -> str:
    """Return a float as JSON has it: without an exponent from 1e-6 up to 1e21."""
    if not math.isfinite(value):
        raise FunctionError(f"json: unsupported value: {shortest(value)}")
    is_plain = value == 0 or 1e-6 <= abs(value) < 1e21
    return shortest(value, "f" if is_plain else "e").replace("e-0", "e-")


def _text(text: str, marked: Marked) -> str:
    return f'"{_ESCAPED.sub(_escape, marked.plain(text))}"'


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if "\ud800" <= character <= "\udfff":
        return "\\ufffd"
    return _SHORT.get(character) or f"\\u{ord(character):04x}"
