"""The words of the tables: routes, the shapes of their bodies, and what is sent to try a field."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

Body = dict[str, Any]
STORED = "a stored response"  # stands for the id of one
Wrap = Callable[[Body], Body]
_BY_TYPE: Mapping[Any, Any] = {bool: True, int: 3, float: 0.5, str: "x", Any: {}}


@dataclass(frozen=True)
class Shape:
    """One kind of object within the bodies of a route.

    wrap: makes a whole body around the object's fields. samples: what is sent for a field, where its type does not
    say; several values where it is taken in some and refused in others. silent: fields that are accepted and change
    nothing, each with the reason; there may be no others. company: what a field is sent together with, where it means
    nothing alone.
    """

    struct: type[msgspec.Struct] | None  # None: `samples` alone say which fields there are
    title: str
    wrap: Wrap
    samples: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    company: Mapping[str, Body] = field(default_factory=dict)

    def fields(self) -> list[str]:
        """Return the names of the fields."""
        if self.struct is None:
            return list(self.samples)
        return [one.encode_name for one in msgspec.structs.fields(self.struct)]

    def values(self, name: str) -> Sequence[Any]:
        """Return what is sent to try a field."""
        if name in self.samples:
            return self.samples[name]
        plain = _without_null(typing.get_type_hints(self.struct).get(name))
        if plain not in _BY_TYPE:
            raise LookupError(f"{self.title}, {name}: needs a sample in tools/compatibility")
        return (_BY_TYPE[plain],)


@dataclass(frozen=True)
class Route:
    """One route, with the shapes of its bodies; `note` says what the table cannot."""

    method: str
    path: str
    shapes: Sequence[Shape] = ()
    note: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """The routes of one API."""

    title: str
    introduction: str
    routes: Sequence[Route]


def _without_null(hint: Any) -> Any:
    """Return the type that a field has when it is there: the first one that a sample is known for."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    options = [one for one in typing.get_args(hint) if one is not type(None)]
    return next((one for one in options if one in _BY_TYPE), options[0])
