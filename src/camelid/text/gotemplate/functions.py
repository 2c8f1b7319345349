"""The functions that templates may call: Go's own, and those that Ollama adds.

`and` and `or` are not here: they leave arguments out, which only the evaluator can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from types import MappingProxyType

from . import escaping
from .budget import Budget
from .comparing import equal, less
from .marking import Marked
from .marshal import to_json
from .printing import sprint, sprintln
from .values import FunctionError, Record, Value, decoded, encoded, is_list, truth, type_name
from .verbs import Formatter


@dataclass(frozen=True)
class Context:
    """What a function may use beside its arguments."""

    marked: Marked
    budget: Budget
    today: date

    @property
    def formatter(self) -> Formatter:
        """What `printf` writes with."""
        return Formatter(self.marked, self.budget)


@dataclass(frozen=True)
class Builtin:
    """A function: how many arguments it takes at least and at most (None: any number), and what it does."""

    least: int
    most: int | None
    call: Callable[[Context, Sequence[Value]], Value]


def _not(context: Context, given: Sequence[Value]) -> Value:
    return not truth(given[0])


def _eq(context: Context, given: Sequence[Value]) -> Value:
    if len(given) < 2:
        raise FunctionError("missing argument for comparison")
    return any(_equal(context, given[0], other) for other in given[1:])


def _ne(context: Context, given: Sequence[Value]) -> Value:
    return not _equal(context, given[0], given[1])


def _lt(context: Context, given: Sequence[Value]) -> Value:
    return _less(context, given[0], given[1])


def _le(context: Context, given: Sequence[Value]) -> Value:
    return _less(context, given[0], given[1]) or _equal(context, given[0], given[1])


def _equal(context: Context, left: Value, right: Value) -> bool:
    _count(context, left, right)
    return equal(left, right, context.marked)


def _less(context: Context, left: Value, right: Value) -> bool:
    _count(context, left, right)
    return less(left, right, context.marked)


def _count(context: Context, *values: Value) -> None:
    """Count the strings among values that are looked at from end to end."""
    context.budget.step(sum(len(value) for value in values if isinstance(value, str)))


def _gt(context: Context, given: Sequence[Value]) -> Value:
    return not _le(context, given)


def _ge(context: Context, given: Sequence[Value]) -> Value:
    return not _lt(context, given)


def _len(context: Context, given: Sequence[Value]) -> Value:
    value = given[0]
    if isinstance(value, str):
        context.budget.step(len(value))
        return len(encoded(context.marked.plain(value)))
    if is_list(value) or isinstance(value, dict):
        return len(value)
    raise FunctionError("len of nil pointer" if value is None else f"len of type {type_name(value)}")


def _index(context: Context, given: Sequence[Value]) -> Value:
    value = given[0]
    if value is None:
        raise FunctionError("index of untyped nil")
    for key in given[1:]:
        value = _indexed(context, value, key)
    return value


def _indexed(context: Context, value: Value, key: Value) -> Value:
    if isinstance(value, dict):
        if not isinstance(key, str):
            raise FunctionError(f"value has type {type_name(key)}; should be string")
        return value.get(key, value.get(context.marked.seal(key)))
    if isinstance(value, str):
        context.budget.step(len(value))
        content = encoded(context.marked.plain(value))
        return content[_position(key, len(content) - 1)]
    if is_list(value):
        return value[_position(key, len(value) - 1)]
    raise FunctionError("index of nil pointer" if value is None else f"can't index item of type {type_name(value)}")


def _position(key: Value, largest: int) -> int:
    if not isinstance(key, int) or isinstance(key, bool):
        kind = "nil" if key is None else f"type {type_name(key)}"
        raise FunctionError(f"cannot index slice/array with {kind}")
    if not 0 <= key <= largest:
        raise FunctionError(f"index out of range: {key}")
    return key


def _slice(context: Context, given: Sequence[Value]) -> Value:
    value, keys = given[0], given[1:]
    if value is None:
        raise FunctionError("slice of untyped nil")
    if len(keys) > 3:
        raise FunctionError(f"too many slice indexes: {len(keys)}")
    if isinstance(value, str):
        if len(keys) == 3:
            raise FunctionError("cannot 3-index slice a string")
        context.budget.make(len(value))
        return context.marked.change(value, lambda plain: decoded(_cut(encoded(plain), keys)))
    if not is_list(value):
        raise FunctionError(f"can't slice item of type {type_name(value)}")
    context.budget.step(len(value) // 4)  # copied by the machine word
    return _cut(value, keys)


def _cut(value: Value, keys: Sequence[Value]) -> Value:
    places = [_position(key, len(value)) for key in keys]
    first, last = [*places[:2], *(0, len(value))[len(places[:2]) :]]
    bounds = [first, last, *places[2:]]
    for low, high in pairwise(bounds):
        if low > high:
            raise FunctionError(f"invalid slice index: {low} > {high}")
    return value[first:last]


def _print(context: Context, given: Sequence[Value]) -> Value:
    return _made(context, sprint(given, context.marked))


def _println(context: Context, given: Sequence[Value]) -> Value:
    return _made(context, sprintln(given, context.marked))


def _printf(context: Context, given: Sequence[Value]) -> Value:
    form = given[0]
    if not isinstance(form, str):
        raise FunctionError(f"wrong type for value; expected string; got {type_name(form)}")
    context.budget.make(len(form))
    return _made(context, context.formatter.sprintf(form, given[1:]))


def _escape(change: Callable[[str], str]) -> Callable[[Context, Sequence[Value]], Value]:
    def call(context: Context, given: Sequence[Value]) -> Value:
        text = sprint(["<no value>" if value is None else value for value in given], context.marked)
        context.budget.make(6 * len(text))  # what one character becomes at most, nearly
        return context.marked.change(text, change)

    return call


def _json(context: Context, given: Sequence[Value]) -> Value:
    return _made(context, to_json(given[0], context.marked))


def _current_date(context: Context, given: Sequence[Value]) -> Value:
    return context.today.isoformat()


def _yesterday_date(context: Context, given: Sequence[Value]) -> Value:
    return (context.today - timedelta(days=1)).isoformat()


def _type_script_type(context: Context, given: Sequence[Value]) -> Value:
    value = given[0]
    method = value.methods.get("ToTypeScriptType") if isinstance(value, Record) else None
    if method is None:
        raise FunctionError(f"expected a tool's property; got {type_name(value)}")
    return method()


def _call(context: Context, given: Sequence[Value]) -> Value:
    """Refuse: there are no functions among the values that templates get."""
    raise FunctionError("call of nil" if given[0] is None else f"non-function of type {type_name(given[0])}")


def _made(context: Context, text: str) -> str:
    context.budget.make(len(text))
    return text


FUNCTIONS: Mapping[str, Builtin | None] = MappingProxyType(
    {
        "and": None,
        "or": None,
        "not": Builtin(1, 1, _not),
        "eq": Builtin(1, None, _eq),
        "ne": Builtin(2, 2, _ne),
        "lt": Builtin(2, 2, _lt),
        "le": Builtin(2, 2, _le),
        "gt": Builtin(2, 2, _gt),
        "ge": Builtin(2, 2, _ge),
        "len": Builtin(1, 1, _len),
        "index": Builtin(1, None, _index),
        "slice": Builtin(1, None, _slice),
        "print": Builtin(0, None, _print),
        "println": Builtin(0, None, _println),
        "printf": Builtin(1, None, _printf),
        "html": Builtin(0, None, _escape(escaping.html)),
        "js": Builtin(0, None, _escape(escaping.javascript)),
        "urlquery": Builtin(0, None, _escape(escaping.url_query)),
        "call": Builtin(1, None, _call),
        "json": Builtin(1, 1, _json),
        "currentDate": Builtin(0, 0, _current_date),
        "yesterdayDate": Builtin(0, 0, _yesterday_date),
        "toTypeScriptType": Builtin(1, 1, _type_script_type),
    }
)
