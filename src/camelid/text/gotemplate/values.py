"""The values that templates compute with, as Python ones.

Go's bool, int, float64 and string are Python's; nil is None; a slice is a list or tuple, a map a dict. Structs are
`Record`. What Ollama gives templates prints itself in ways of its own, for which the other classes stand. Numbers have
one size each: templates cannot make any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Value = Any  # None, bool, int, float, str, list, tuple, dict, Record


class FunctionError(Exception):
    """What a function says about arguments that it cannot take; the evaluator adds its name and the line."""


class JsonMap(dict[str, Value]):
    """A map that keeps its order, and prints as JSON."""


class JsonList(tuple[Value, ...]):
    """A slice that prints as JSON."""


class TypeNames(tuple[str, ...]):
    """The types of a JSON schema: one prints, and is written in JSON, as itself; several as a list."""


@dataclass(frozen=True)
class Record:
    """A struct. `fields` by Go's names; `keys` says what JSON calls them, `optional` which it leaves out when zero.

    `more` are members that JSON has and templates do not know. `methods` take no arguments.
    """

    type_name: str
    fields: Mapping[str, Value]
    keys: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    more: Mapping[str, Value] = field(default_factory=dict)
    methods: Mapping[str, Callable[[], Value]] = field(default_factory=dict)
    prints_json: bool = False

    def members(self) -> Iterable[tuple[str, Value]]:
        """Yield name and value of what JSON shows."""
        for name, key in self.keys.items():
            if name not in self.optional or truth(self.fields[name]):
                yield key, self.fields[name]
        yield from self.more.items()


def truth(value: Value) -> bool:
    """Tell whether a value counts as true: not zero, not empty. A struct always does."""
    return True if isinstance(value, Record) else bool(value)


def prints_json(value: Value) -> bool:
    """Tell whether a value prints as JSON."""
    return isinstance(value, JsonMap | JsonList) or (isinstance(value, Record) and value.prints_json)


def type_name(value: Value) -> str:
    """Return Go's name of a value's type."""
    if isinstance(value, Record):
        return value.type_name
    for kind, name in _TYPE_NAMES.items():
        if isinstance(value, kind):
            return name
    return "nil"


_TYPE_NAMES: Mapping[type, str] = {
    bool: "bool",  # before int, of which it is one in Python
    int: "int",
    float: "float64",
    str: "string",
    TypeNames: "[]string",
    list: "[]interface {}",
    tuple: "[]interface {}",
    dict: "map[string]interface {}",
}


def basic_kind(value: Value) -> type | None:
    """Return what a value is compared as; None for what has no order and no simple equality."""
    return next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)


def is_list(value: Value) -> bool:
    """Tell whether a value is a slice."""
    return isinstance(value, list | tuple)


def encoded(text: str) -> bytes:
    """Return the bytes of a string."""
    return text.encode("utf-8", errors="surrogateescape")


def decoded(content: bytes) -> str:
    """Return the string of some bytes."""
    return content.decode("utf-8", errors="surrogateescape")
