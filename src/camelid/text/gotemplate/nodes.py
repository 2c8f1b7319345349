"""What a Go template is made of, once it is parsed. Values only."""

from __future__ import annotations

from dataclasses import dataclass

Literal = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`: what the template looks at."""


@dataclass(frozen=True, slots=True)
class Nil:
    """`nil`, which only an argument may be."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A string, number, character or truth value."""

    value: Literal


@dataclass(frozen=True, slots=True)
class Field:
    """`.Name.Name`: fields of what the template looks at."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$name.Name`: a variable, and fields of it. `name` has its dollar sign."""

    name: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A function by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """`(…).Name`: fields of the value of a pipeline or a function."""

    of: Operand
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """An operand, with arguments where it is a function. Never empty."""

    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each of which gets the value of the one before as its last argument. Never empty.

    The value goes to the `variables` too: new ones, or those that there are already (`assigns`).
    """

    line: int
    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    assigns: bool = False


Operand = Dot | Nil | Constant | Field | Variable | Function | Chain | Pipeline


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is written as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """`{{ pipeline }}`: its value is written, unless it goes to a variable."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class If:
    """`{{ if }}`, with `{{ else if }}` as an If that is alone in `otherwise`."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class With:
    """`{{ with }}`: an If whose body looks at the value."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """`{{ range }}`: the body once for each element."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """`{{ template "name" pipeline }}`, and what a `{{ block }}` leaves where it stands."""

    line: int
    name: str
    pipeline: Pipeline | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """`{{ break }}`."""


@dataclass(frozen=True, slots=True)
class Continue:
    """`{{ continue }}`."""


Branch = If | With | Range
Node = Text | Action | Branch | Call | Break | Continue
Nodes = tuple[Node, ...]
