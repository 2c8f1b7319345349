"""Lists of calls: `[get_weather(city="Bern"), noop()]` as Llama 3.2 was taught to write them, and lists of objects.

What is in such a list is calls and nothing else, or it is no list of calls but text.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from .forms import MAX_SPACE, call_of, may_be_call, parsed_list, written
from .json_end import JsonEnd
from .python_values import keyword_arguments

_FIRST = re.compile(r"[\w.-]+")
_CALL = re.compile(r"\s*([\w.-]+)\(")
_BEHIND = re.compile(r"\s*(?:,|\])")
QUOTES, BRACKETS = "\"'", "{}[]()"


def may_be_list(head: str, tools: Collection[str]) -> bool | None:
    """Tell from its beginning whether a list may be one of calls; None while it is too early to tell."""
    inner = head[1 : MAX_SPACE + 2].lstrip()
    if not inner:
        return None if len(head) <= MAX_SPACE + 1 else False
    inner = head[1:].lstrip()
    if inner[0] == "{":
        return may_be_call(inner, tools)
    first = _FIRST.match(inner)
    if first is None:
        return False
    name, rest = first.group(), inner[first.end() :]
    if rest:
        return name in tools and rest[0] == "("
    return None if any(tool.startswith(name) for tool in tools) else False


def end_of_list(start: int) -> JsonEnd:
    """Return what finds the end of a list that begins at `start`."""
    return JsonEnd(start, QUOTES, BRACKETS)


def list_calls(text: str, tools: Collection[str]) -> list[tuple[str, str]] | None:
    """Return names and arguments (JSON text) of the calls in a complete list, None if something in it is no call."""
    if text[1:].lstrip().startswith("{"):
        return _json_calls(text, tools)
    calls, at = [], 1
    while (head := _CALL.match(text, at)) is not None and head[1] in tools:
        opening = head.end() - 1
        end = JsonEnd(opening, QUOTES, BRACKETS).find(text)
        arguments = None if end is None else keyword_arguments(text[opening + 1 : end - 1])
        behind = None if end is None else _BEHIND.match(text, end)
        if arguments is None or behind is None:
            return None
        calls.append((head[1], written(arguments)))
        at = behind.end()
        if at == len(text):
            return calls
    return calls if calls and text[at:].strip() == "]" else None


def _json_calls(text: str, tools: Collection[str]) -> list[tuple[str, str]] | None:
    values = parsed_list(text)
    calls = [call_of(value, tools) for value in values or ()]
    found = [call for call in calls if call is not None]
    return found if found and len(found) == len(calls) else None
