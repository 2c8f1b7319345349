"""The parameters of an answer that a person can set, as flags of `run` and with `/set` in the console:

one table for both.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from camelid.errors import InvalidRequest
from camelid.types import Generation, Sampling, Stopping

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, how to read it, and what it does."""

    name: str
    parse: Callable[[str], object]
    meaning: str

    def read(self, text: str) -> object:
        """Return the value that `text` spells. Raises InvalidRequest."""
        try:
            return self.parse(text)
        except ValueError as error:
            raise InvalidRequest(
                f"{self.name} must be a {self.parse.__name__}, got {text!r}", field=self.name
            ) from error


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("temperature", float, "0 always takes the likeliest token; higher is more varied."),
        Parameter("top_k", int, "Draw from the k likeliest tokens only; 0 is off."),
        Parameter("top_p", float, "Draw from the likeliest tokens that hold this much probability together."),
        Parameter("min_p", float, "Leave out tokens less likely than this fraction of the likeliest one."),
        Parameter("repetition_penalty", float, "Above 1 makes tokens that already occurred less likely."),
        Parameter("seed", int, "The same seed gives the same answer."),
        Parameter("max_tokens", int, "End the answer after this many tokens."),
        Parameter("stop", str, "End the answer before this text."),
    )
}


def parameter_options(command: _Command) -> _Command:
    """Add a flag for every parameter. Values arrive as text, unset ones as None."""
    for parameter in reversed(PARAMETERS.values()):
        flag = "--" + parameter.name.replace("_", "-")
        command = click.option(flag, parameter.name, metavar=parameter.parse.__name__.upper(), help=parameter.meaning)(
            command
        )
    return command


def generation(defaults: Sampling, given: Mapping[str, object]) -> Generation:
    """Return the generation that `given` parameters ask for on top of a model's `defaults`;

    without a seed, a new one.
    """
    sampling = {name: given[name] for name in given if name in Sampling.__dataclass_fields__}
    stopping = {name: given[name] for name in given if name in ("max_tokens",)}
    if "stop" in given:
        stopping["stop"] = (given["stop"],)
    sampling.setdefault("seed", defaults.seed or secrets.randbits(63))
    return Generation(replace(defaults, **sampling), Stopping(**stopping))  # type: ignore[arg-type]
