"""Values as text: what `{{ . }}`, `print` and `%v` write. Go's package fmt without the verbs, which are in `verbs`.

A list or a map is written with brackets, and what is in it comes from outside as a rule: its text is sealed as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .floats import shortest
from .marking import Marked
from .marshal import to_json
from .values import Record, TypeNames, Value, is_list, prints_json


def shown(value: Value, marked: Marked) -> str:
    """Return what an action writes for a value."""
    return "<no value>" if value is None else text_of(value, marked)


def text_of(value: Value, marked: Marked) -> str:
    """Return a value as `%v` writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return shortest(value)
    if prints_json(value):
        return to_json(value, marked)
    if isinstance(value, TypeNames) and len(value) < 2:
        return "".join(value)
    return marked.seal("".join(_composite(value, marked)))


def _composite(value: Value, marked: Marked) -> Iterator[str]:
    if isinstance(value, dict):
        yield "map["
        yield " ".join(f"{key}:{text_of(item, marked)}" for key, item in sorted(value.items()))
        yield "]"
    elif is_list(value):
        yield f"[{' '.join(text_of(item, marked) for item in value)}]"
    elif isinstance(value, Record):
        yield f"{{{' '.join(text_of(item, marked) for item in value.fields.values())}}}"
    else:
        raise AssertionError(f"{type(value)} is no value of a template")


def sprint(values: Sequence[Value], marked: Marked) -> str:
    """Return values as `print` writes them: with a space between two that are no strings."""
    pieces: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            pieces.append(" ")
        pieces.append(text_of(value, marked))
    return "".join(pieces)


def sprintln(values: Sequence[Value], marked: Marked) -> str:
    """Return values as `println` writes them: with a space between any two, and a line end."""
    return " ".join(text_of(value, marked) for value in values) + "\n"
