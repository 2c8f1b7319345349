"""The forms of a call: what a piece of text says if it is one.

Separate from the splitter because these look at text that is complete, or at the head of one, and keep no state.
Nothing is evaluated: a call is read by a JSON parser, a regular expression or `python_values`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, NoReturn

from .python_values import keyword_arguments

CODE_INTERPRETER = "code_interpreter"
MAX_SPACE = 64  # white space in front of a call or its parts; a model that repeats line ends for ever makes no call

# The keys that a call may begin with. Models mix the form they were taught with that of APIs.
_KEYS = ("name", "type", "function", "parameters", "arguments", "id")
_KEYS_OF_A_CALL = frozenset(_KEYS)

# The beginning of an object: its first key and, if that is a string, its value; each part may still be missing.
_HEAD = re.compile(rf'\{{\s{{0,{MAX_SPACE}}}(?:"([^"\\]*)("?)\s*:?\s*(?:"([^"\\]*)("?))?)?')

_BUILT_IN = re.compile(r"\s*(\w+)\.call\((.*)\)\s*", re.DOTALL)


def may_be_call(head: str, tools: Collection[str]) -> bool | None:
    """Tell from the beginning of a JSON object whether it may be a call; None while it is too early to tell.

    An answer in JSON is told at its first key or name, so that it streams.
    """
    matched = _HEAD.match(head)
    if matched is None:
        return False
    rest = head[matched.end() :]
    key, key_end, value, value_end = matched.groups()
    if key is None:
        return None if not rest else False
    if not key_end:
        return _is_beginning(key, _KEYS) if not rest else False
    if key not in _KEYS:
        return False
    if value is None:
        return None if not rest else True
    wanted = {"name": tools, "function": tools, "type": ("function",)}.get(key)
    if wanted is None or (rest and not value_end):  # an escape: whoever parses it will see
        return True
    return value in wanted if value_end else _is_beginning(value, wanted)


def _is_beginning(text: str, of: Collection[str]) -> bool | None:
    return None if any(word.startswith(text) for word in of) else False


def json_call(text: str, tools: Collection[str], *, needs_arguments: bool = False) -> tuple[str, str] | None:
    """Return name and arguments (JSON text) if a complete JSON object calls one of the tools."""
    return call_of(parsed_object(text), tools, needs_arguments=needs_arguments)


def call_of(value: object, tools: Collection[str], *, needs_arguments: bool = False) -> tuple[str, str] | None:
    """Return name and arguments (JSON text) if a JSON value calls one of the tools.

    A call without arguments may leave them out, unless it `needs_arguments`; but then nothing else may be in it.
    """
    if not isinstance(value, dict) or value.get("type", "function") != "function":
        return None
    function = value.get("function", value)
    if isinstance(function, str):
        function = value | {"name": function}
    if not isinstance(function, dict) or function.get("name") not in tools:
        return None
    arguments = function.get("parameters", function.get("arguments"))
    if isinstance(arguments, str):
        arguments = parsed_object(arguments)
    elif arguments is None and function.keys() <= _KEYS_OF_A_CALL and not needs_arguments:
        arguments = {}
    return (function["name"], written(arguments)) if isinstance(arguments, dict) else None


def json_arguments(text: str) -> str | None:
    """Return the arguments as JSON text if `text` is a JSON object."""
    value = parsed_object(text)
    return None if value is None else written(value)


def may_be_built_in(head: str, tools: Collection[str]) -> bool:
    """Tell whether text after the tag may be a built-in call or code for the interpreter."""
    if CODE_INTERPRETER in tools:
        return True
    calls = [f"{tool}.call(" for tool in tools]
    head = head.lstrip()
    return any(call.startswith(head) or head.startswith(call) for call in calls)


def built_in_call(text: str, tools: Collection[str]) -> tuple[str, str] | None:
    """Return name and arguments if the text after the tag is `name.call(key="value", …)` or code to be run."""
    matched = _BUILT_IN.fullmatch(text)
    if matched is not None and matched[1] in tools:
        arguments = keyword_arguments(matched[2])
        if arguments is not None:
            return matched[1], written(arguments)
    return (CODE_INTERPRETER, written({"code": text})) if CODE_INTERPRETER in tools else None


def parsed_object(text: str) -> dict[str, Any] | None:
    """Return the object that JSON text writes, None if it writes none."""
    value = _parsed(text)
    return value if isinstance(value, dict) else None


def parsed_list(text: str) -> list[Any] | None:
    """Return the list that JSON text writes, None if it writes none."""
    value = _parsed(text)
    return value if isinstance(value, list) else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def written(arguments: dict[str, Any]) -> str:
    """Return arguments as JSON text that can be sent as UTF-8."""
    text = json.dumps(arguments, ensure_ascii=False)
    return text if text.isprintable() or _is_utf8(text) else json.dumps(arguments)


def _is_utf8(text: str) -> bool:
    """Tell whether there are no lone surrogates, which escapes in JSON can write."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
