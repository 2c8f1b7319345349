"""Modelfiles whose values come from a task's inputs: `{inputs.name}` becomes what the input is.

The syntax is that of Flyte's own plugin (`{inputs.a}`, `{inputs[a]}`, `{inputs.a:.2f}`), and it reaches into nested
values. Everything else stays as it is written: single braces, JSON, and Go's `{{ .Prompt }}`. Nothing but keys of
dictionaries and places in lists can be named, so no template gets at Python's own attributes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from camelid.errors import BadModelfile
from camelid.store.modelfile import instruction_names

MARK = "{inputs"  # what makes a Modelfile a dynamic one

_STEP = r"\.[A-Za-z_]\w*|\[[^\[\]{}]+\]"
_BRACES_OR_FIELD = re.compile(
    r"\{\{|\{inputs(?P<path>(?:" + _STEP + r")*)(?P<turn>![sr])?(?P<form>:[^{}]*)?\}|\{inputs\b"
)
_ONE_STEP = re.compile(_STEP)


def is_dynamic(modelfile: str) -> bool:
    """Say whether a Modelfile waits for inputs."""
    return MARK in modelfile


def fill_in(modelfile: str, inputs: Mapping[str, Any]) -> str:
    """Return a Modelfile with the values of inputs in it.

    Raises BadModelfile, with the line, for an input that is not there or a format that does not fit, and where a value
    would be read as an instruction of its own, unless the Modelfile is nothing but one input.
    """

    def value(found: re.Match[str]) -> str:
        if found[0] == "{{":
            return found[0]
        return _written(found, inputs, modelfile.count("\n", 0, found.start()) + 1)

    filled = _BRACES_OR_FIELD.sub(value, modelfile)
    is_whole_input = _BRACES_OR_FIELD.fullmatch(modelfile.strip()) is not None
    if not is_whole_input and instruction_names(filled) != instruction_names(modelfile):
        hint = 'write """ around inputs of several lines, and keep """ out of them'
        raise BadModelfile("the value of an input would change the instructions of the Modelfile", hint=hint)
    return filled


def _written(found: re.Match[str], inputs: Mapping[str, Any], line: int) -> str:
    if not found[0].endswith("}"):
        raise BadModelfile(f"line {line}: {found[0]!r} is not closed, or names nothing that an input can be")
    value = _looked_up(found["path"], inputs, line)
    if found["turn"]:
        value = repr(value) if found["turn"] == "!r" else str(value)
    if not found["form"]:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    try:
        return format(value, found["form"][1:])
    except (TypeError, ValueError) as error:
        raise BadModelfile(f"line {line}: {found[0]} cannot be written so: {error}") from error


def _looked_up(path: str, inputs: Mapping[str, Any], line: int) -> Any:
    value: Any = inputs
    reached = "inputs"
    for step in _ONE_STEP.findall(path):
        key = step.removeprefix(".").strip("[]'\"")
        try:
            value = value[int(key)] if isinstance(value, list) else _entry(value, key)
        except (KeyError, IndexError, ValueError) as error:
            raise BadModelfile(f"line {line}: there is no {reached}{step}", hint=_there(reached, value)) from error
        reached += step
    return value


def _entry(value: Any, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise KeyError(key)
    return value[key]


def _there(reached: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{reached} has {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, list):
        return f"{reached} is a list of {len(value)}"
    return f"{reached} is {type(value).__name__}, with nothing in it"
