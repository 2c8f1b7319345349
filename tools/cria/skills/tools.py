"""Calling a given tool in Llama 3.1's JSON format and using its result.

Held out: the pair of the tool's name and its arguments; of a result, its fields and values.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from .. import phrases
from ..conversation import Conversation, Draw, Turn, system_message, varied
from ..words import LISTS, is_integer, maker
from . import arithmetic, greeting, identity

_SAID = phrases.load("tools")


@dataclass(frozen=True)
class Tool:
    """A function: how it is defined, how people ask for it, and what it returns (names to kinds of values)."""

    names: list[str]
    description: str
    parameters: dict[str, str]
    asks: list[str]
    result: dict[str, str]

    @property
    def name(self) -> str:
        """The name, once one is chosen."""
        return self.names[0]

    def counts(self) -> bool:
        """Say whether the tool does sums."""
        return list(self.parameters) == ["a", "b"]


_CATALOGUE = [Tool(**given) for given in _SAID["tool"]]


def _some(rng: Random, pool: dict[str, str], count: int) -> dict[str, str]:
    return {label: pool[label] for label in rng.sample(list(pool), count)}


def _made(rng: Random) -> Tool:
    """A tool of a made-up purpose: a verb, a noun and one to three plain parameters."""
    verb, noun = rng.choice(_SAID["verbs"]), rng.choice(LISTS["nouns"])
    parameters = _some(rng, _SAID["parameters"], rng.choice((1, 1, 2, 2, 3)))
    told = [f"{label} {{{index}}}" for index, label in enumerate(parameters)]
    asks = [f"{start} the {noun} with {' and '.join(told)}." for start in (verb.capitalize(), f"Please {verb}")]
    asks.append(f"{verb} a {noun}: {', '.join(told)}")
    if len(parameters) == 1:
        asks.append(f"{verb.capitalize()} the {noun} whose {told[0].replace('{', 'is {')}.")
    names = [f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}{noun.capitalize()}", f"{verb}-{noun}", f"{noun}_{verb}"]
    result = _some(rng, _SAID["results"], rng.choice((1, 1, 2)))
    return Tool(names, f"{verb.capitalize()} a {noun}", parameters, asks, result)


def _tool(rng: Random) -> Tool:
    drawn = rng.choice(_CATALOGUE) if rng.random() < 0.55 else _made(rng)
    return replace(drawn, names=[rng.choice(drawn.names)])


def _definition(rng: Random, tool: Tool) -> dict[str, Any]:
    note = rng.choice(_SAID["notes"])
    properties: dict[str, Any] = {}
    for label, kind in tool.parameters.items():
        properties[label] = {"type": "integer" if is_integer(kind) else "string"}
        if note:
            properties[label]["description"] = note.format(p=label, n=tool.name.replace("_", " "))
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.7:
        parameters["required"] = list(tool.parameters)
    description = tool.description + rng.choice(("", "", "."))
    return {
        "type": "function",
        "function": {"name": tool.name, "description": description, "parameters": parameters},
    }


def _values(rng: Random, kinds: dict[str, str]) -> dict[str, Any]:
    return {label: maker(kind)(rng) for label, kind in kinds.items()}


def _call_turn(draw: Draw, tool: Tool) -> Turn:
    called = draw.pick(
        lambda r: {"name": tool.name, "parameters": _values(r, tool.parameters)}, lambda c: f"call {json.dumps(c)}"
    )
    text = draw.rng.choice(tool.asks).format(*called["parameters"].values())
    return Turn(varied(draw, text, fold=False), json.dumps(called, ensure_ascii=False), call=True)


def result_sentence(result: dict[str, Any]) -> str:
    """Return the answer that uses a tool's result: every field, in order."""
    *most, last = [f"the {label.replace('_', ' ')} is {value}" for label, value in result.items()]
    text = f"{', '.join(most)} and {last}" if most else last
    return text[0].upper() + text[1:] + "."


def _result_turn(draw: Draw, tool: Tool) -> Turn:
    result = draw.pick(lambda r: _values(r, tool.result), lambda v: f"result {json.dumps(v)}")
    return Turn(json.dumps(result, ensure_ascii=False), result_sentence(result), role="tool")


def _plain_turn(draw: Draw, tools: list[Tool]) -> Turn:
    """A turn that no tool is needed for; no sum where a tool does sums."""
    makers = [greeting.turn, identity.known_turn]
    if not any(tool.counts() for tool in tools):
        makers.append(arithmetic.turn)
    return draw.rng.choice(makers)(draw)


def _choose(rng: Random) -> list[Tool]:
    """Draw one to three tools that no question can confuse."""
    chosen: dict[str, Tool] = {}
    count = rng.choice((1, 1, 1, 1, 2, 2, 2, 3))
    while len(chosen) < count:
        drawn = _tool(rng)
        chosen.setdefault(drawn.description[:14], drawn)
    return list(chosen.values())


def _turns(draw: Draw, tools: list[Tool]) -> list[Turn]:
    turns: list[Turn] = []
    for _ in range(draw.rng.choice((1, 2, 3, 4))):
        if draw.chance(0.15):
            turns.append(_plain_turn(draw, tools))
            continue
        tool = draw.rng.choice(tools)
        turns.append(_call_turn(draw, tool))
        if draw.chance(0.8):
            turns.append(_result_turn(draw, tool))
    return turns


def conversation(draw: Draw) -> Conversation:
    """Draw one to three tools and questions that need one of them, or none."""
    tools = _choose(draw.rng)
    definitions = tuple(_definition(draw.rng, tool) for tool in tools)
    return Conversation("tools", tuple(_turns(draw, tools)), system_message(draw, 0.25), definitions)
