"""A Dockerfile as values: stages of steps, variables filled in. Reading is the work of `dockerfile-parse`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

from dockerfile_parse import DockerfileParser

_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Step:
    """An instruction; `arguments` are the words of its exec form, or None where it has a shell's text."""

    name: str
    text: str
    arguments: tuple[str, ...] | None
    flags: Mapping[str, str]


@dataclass
class Stage:
    """What one FROM begins. `arguments` are the values of ARG, `variables` those of ENV."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def last(self, name: str) -> Step | None:
        """Return the last instruction of a kind."""
        return next((step for step in reversed(self.steps) if step.name == name), None)

    def labels(self) -> dict[str, str]:
        """Return the image's labels."""
        return dict(pair for step in self.steps if step.name == "LABEL" for pair in _pairs(step.text))


def stages(text: str, given: Mapping[str, str]) -> list[Stage]:
    """Return the stages of a Dockerfile. `given` are build arguments."""
    parser = DockerfileParser(fileobj=BytesIO(text.encode()))
    found: list[Stage] = []
    outside: dict[str, str] = {}
    for one in parser.structure:
        name, value = one["instruction"], one["value"]
        if name == "COMMENT":
            continue
        if name == "FROM":
            base, _, stage = _filled(value, outside).partition(" AS ")
            found.append(Stage(base, stage or str(len(found))))
        elif not found:
            outside.update((key, given.get(key, default)) for key, default in _pairs(value))
        else:
            _add(found[-1], name, value, given)
    return found


def _add(stage: Stage, name: str, value: str, given: Mapping[str, str]) -> None:
    if name == "ARG":
        stage.arguments.update((key, given.get(key, default)) for key, default in _pairs(value))
        return
    flags, rest = {}, value
    while name in ("COPY", "RUN", "HEALTHCHECK") and (found := re.match(r"--([\w-]+)=(\S+)\s+", rest)):
        flags[found[1]], rest = found[2], rest[found.end() :]
    known = stage.arguments | stage.variables
    filled = rest if name in ("RUN", "CMD", "ENTRYPOINT") else _filled(rest, known)  # those a shell fills in
    if name == "ENV":
        stage.variables.update(_pairs(filled))
    listed = rest.removeprefix("CMD ") if name == "HEALTHCHECK" else rest
    words = tuple(json.loads(listed)) if listed.startswith("[") else None
    stage.steps.append(Step(name, filled, words, flags))


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values[found[1]], text)


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = (word.partition("=") for word in shlex.split(text))
    return [(name, value) for name, _, value in pairs]
