"""Modelfiles: how a model is made from another one, with parameters, a system prompt and more.

Text in, value out, and back. A line begins with an instruction (any case), and its value reaches to the end of the
line or, where it begins with a quote or three, to the next such quote at the end of a line. `#` begins a comment where
an instruction could.
Source: Ollama's Modelfile, version 0.33.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from camelid.errors import BadModelfile

if TYPE_CHECKING:
    from .local import ModelFiles

Value = int | float | bool | str

INTEGERS = frozenset(
    ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict", "top_k")
) | frozenset(("repeat_last_n", "draft_num_predict"))
FLOATS = frozenset(
    ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
)
BOOLEANS = frozenset(("use_mmap",))
LISTS = frozenset(("stop",))
ROLES = ("system", "user", "assistant")
INSTRUCTIONS = ("from", "license", "template", "system", "adapter", "parameter", "message", "requires")
REFUSED = ("renderer", "parser", "draft")

_COMMAND = re.compile(r"([A-Za-z]+)(?=[ \t])")
_VERSION = re.compile(r"v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?")


@dataclass(frozen=True)
class Modelfile:
    """What a Modelfile says. `parameters` are name and value in their order, `messages` role and text."""

    base: str
    parameters: tuple[tuple[str, Value], ...] = ()
    template: str | None = None
    system: str | None = None
    adapters: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    requires: str | None = None

    def parameter_layer(self) -> Mapping[str, object]:
        """Return the parameters as a store keeps them: the last value of each, of `stop` all."""
        found: dict[str, object] = {}
        for name, value in self.parameters:
            found[name] = [*_list(found.get(name)), value] if name in LISTS else value
        return found

    def __str__(self) -> str:
        """The Modelfile that says this."""
        lines = [f"FROM {quoted(self.base)}"]
        lines += [f"{name.upper()} {quoted(text)}" for name, text in _single(self)]
        lines += [f"PARAMETER {name} {quoted(_written(value))}" for name, value in self.parameters]
        lines += [f"ADAPTER {quoted(path)}" for path in self.adapters]
        lines += [f"MESSAGE {role} {quoted(text)}" for role, text in self.messages]
        lines += [f"LICENSE {quoted(text)}" for text in self.licenses]
        return "\n".join(lines) + "\n"


def parse_modelfile(text: str) -> Modelfile:
    """Return what a Modelfile says. Raises BadModelfile, with the line."""
    found: dict[str, list[str]] = {name: [] for name in INSTRUCTIONS}
    for number, command, value in _instructions(_with_plain_lines(text)):
        if command in REFUSED:
            raise BadModelfile(f"line {number}: {command.upper()} is not supported")
        found[command].append(value)
    if len(found["from"]) != 1:
        raise BadModelfile("there is no FROM line" if not found["from"] else "only one FROM line is supported")
    requires = _last(found["requires"])
    if requires is not None and not _VERSION.fullmatch(requires):
        raise BadModelfile(f"REQUIRES must be a version such as 0.14.0, got {requires[:50]!r}")
    return Modelfile(
        base=found["from"][0],
        parameters=tuple(map(_parameter, found["parameter"])),
        template=_last(found["template"]),
        system=_last(found["system"]),
        adapters=tuple(found["adapter"]),
        licenses=tuple(found["license"]),
        messages=tuple(map(_message, found["message"])),
        requires=requires,
    )


def instruction_names(text: str) -> tuple[str, ...]:
    """Return the instructions of a Modelfile in their order, whatever their values. Raises BadModelfile."""
    return tuple(name for _, name, _ in _instructions(_with_plain_lines(text)))


def quoted(text: str) -> str:
    """Return a value as a Modelfile writes it: in quotes where it would not be read back without.

    Raises BadModelfile for the few texts that no quotes can hold: the grammar has no escapes.
    """
    if text and "\n" not in text and text == text.strip() and not text.startswith('"'):
        return text
    for quote in ('"', '"""') if '"' not in text else ('"""', '"'):
        written = f"{quote}{text}{quote}"
        if _value(written, 0, 1) == (text, len(written)):
            return written
    raise BadModelfile(f"no Modelfile can hold the text {text[:40]!r}…: quotes end a line in it")


def _instructions(text: str) -> Iterable[tuple[int, str, str]]:
    """Yield line number, instruction and value of each. Raises BadModelfile."""
    at = 0
    while (at := _next(text, at)) < len(text):
        number = text.count("\n", 0, at) + 1
        command = _COMMAND.match(text, at)
        name = command[1].lower() if command else text[at : at + 20].split()[0]
        if command is None or name not in (*INSTRUCTIONS, *REFUSED):
            listed = ", ".join(name.upper() for name in INSTRUCTIONS)
            raise BadModelfile(
                f"line {number}: {name!r} is no instruction, or has no value", hint=f"there are {listed}"
            )
        keyed, start = "", command.end()
        if name in ("parameter", "message"):  # their first word is never quoted
            key = re.compile(r"[ \t]+([A-Za-z0-9_]+)(?=[ \t])").match(text, start)
            if key is None:
                raise BadModelfile(f"line {number}: {name.upper()} needs a name and a value")
            keyed, start = key[1] + " ", key.end()
        value, at = _value(text, start, number)
        yield number, name, keyed + value


def _with_plain_lines(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _next(text: str, at: int) -> int:
    """Return where the next instruction begins: behind blanks, empty lines and comments."""
    while at < len(text):
        if text[at] == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif text[at].isspace():
            at += 1
        else:
            break
    return at


def _value(text: str, start: int, number: int) -> tuple[str, int]:
    """Return a value and where it ends."""
    while start < len(text) and text[start] in " \t":
        start += 1
    for quote in ('"""', '"'):
        if text.startswith(quote, start):
            body = start + len(quote)
            end = re.compile(re.escape(quote) + r"[ \t]*(?=\n|\Z)").search(text, body)
            if end is None:
                raise BadModelfile(f"line {number}: a value that begins with {quote} never ends")
            return text[body : end.start()], end.end()
    end_of_line = text.find("\n", start)
    end_at = len(text) if end_of_line < 0 else end_of_line
    return text[start:end_at].strip(), end_at


def _parameter(text: str) -> tuple[str, Value]:
    name, _, value = text.partition(" ")
    try:
        if name in INTEGERS:
            return name, int(value)
        if name in FLOATS:
            return name, float(value)
    except ValueError:
        kind = "int" if name in INTEGERS else "float"
        raise BadModelfile(f"PARAMETER {name}: invalid {kind} value [{value[:50]}]") from None
    if name in BOOLEANS:
        if value.lower() not in ("true", "false", "1", "0"):
            raise BadModelfile(f"PARAMETER {name}: invalid bool value [{value[:50]}]")
        return name, value.lower() in ("true", "1")
    if name in LISTS:
        return name, value
    raise BadModelfile(
        f"unknown parameter {name[:50]!r}", hint=f"there are {', '.join(sorted(INTEGERS | FLOATS))}, stop"
    )


def _message(text: str) -> tuple[str, str]:
    role, _, content = text.partition(" ")
    if role not in ROLES:
        raise BadModelfile(f"the role of a MESSAGE must be one of {', '.join(ROLES)}, got {role[:50]!r}")
    return role, content


def modelfile_of(files: ModelFiles) -> Modelfile:
    """Return the Modelfile from which `create` makes a model again that is like one on this machine."""
    parameters: list[tuple[str, Value]] = []
    for name, value in files.parameters.items():
        values = value if isinstance(value, list) else [value]
        parameters += [(name, one) for one in values if isinstance(one, int | float | str)]
    return Modelfile(
        str(files.weights),
        tuple(parameters),
        files.template,
        files.system or None,
        adapters=tuple(map(str, files.adapters)),
        licenses=files.licenses,
        messages=files.messages,
        requires=files.requires,
    )


def _single(given: Modelfile) -> list[tuple[str, str]]:
    named = (("template", given.template), ("system", given.system), ("requires", given.requires))
    return [(name, text) for name, text in named if text is not None]


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _last(values: list[str]) -> str | None:
    return values[-1] if values else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
