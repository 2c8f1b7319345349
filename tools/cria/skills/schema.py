"""Filling in a JSON object that a schema asks for from facts in the text.

Held out: the set of values.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from .. import phrases
from ..conversation import Conversation, Draw, Turn, system_message
from ..words import made_up, maker, word

_SAID = phrases.load("schema")


@dataclass(frozen=True)
class Field:
    """One property: its schema type, the kind of its values and the sentences that tell the value."""

    name: str
    type: str
    value: str
    told: list[str]

    def make(self, rng: Random) -> Any:
        """Draw a value of the schema's type."""
        drawn = maker(self.value)(rng)
        return str(drawn) if self.type == "string" else drawn


_FIELDS = [Field(**given) for given in _SAID["field"]]
_PLAIN = (("string", "word"), ("string", "made up"), ("integer", "0..999"), ("string", "city"))


def _random_field(rng: Random) -> Field:
    """A property no list holds: any word as its name, told in the plainest way."""
    label = rng.choice((made_up, word))(rng)
    return Field(label, *rng.choice(_PLAIN), [f"The {label} is {{v}}.", f"{label}: {{v}}."])


def _fields(rng: Random) -> list[Field]:
    size = rng.choice((1, 2, 2, 3, 3, 4))
    chosen: dict[str, Field] = {}
    while len(chosen) < size:
        drawn = _random_field(rng) if rng.random() < 0.3 else rng.choice(_FIELDS)
        chosen.setdefault(drawn.name, drawn)
    return list(chosen.values())


def _schema(rng: Random, fields: list[Field]) -> str:
    properties: dict[str, Any] = {}
    for field in fields:
        properties[field.name] = {"type": field.type}
        if field.type == "array":
            properties[field.name]["items"] = {"type": "string"}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.6:
        schema["required"] = [field.name for field in fields]
    if rng.random() < 0.2:
        schema["additionalProperties"] = False
    return json.dumps(schema, indent=rng.choice((None, None, None, 2)))


def _tell(rng: Random, field: Field, value: Any) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, list):
        value = ", ".join(value)
    return rng.choice(field.told).format(v=value)


def _facts(rng: Random, fields: list[Field], values: dict[str, Any]) -> str:
    told = [_tell(rng, field, values[field.name]) for field in fields]
    extra = rng.choice(_FIELDS)
    if rng.random() < 0.25 and extra.name not in values:
        told.append(_tell(rng, extra, extra.make(rng)))
    rng.shuffle(told)
    return " ".join(told)


def _turn(draw: Draw, fields: list[Field]) -> Turn:
    values = draw.pick(lambda r: {f.name: f.make(r) for f in fields}, lambda v: f"schema {json.dumps(v)}")
    return Turn(_facts(draw.rng, fields, values), json.dumps(values, ensure_ascii=False))


def _joined(draw: Draw, schema: str, facts: str) -> str:
    if draw.chance(0.25):
        return facts + draw.rng.choice(("\n", "\n\n")) + schema
    return schema + draw.rng.choice(("\n", "\n\n", "\nText: ")) + facts


def conversation(draw: Draw) -> Conversation:
    """Draw a schema, in the system message or beside the first facts, and one to four sets of facts."""
    fields = _fields(draw.rng)
    schema = draw.rng.choice(_SAID["ask"]).format(s=_schema(draw.rng, fields))
    turns = [_turn(draw, fields) for _ in range(draw.rng.choice((1, 2, 3, 4)))]
    if draw.chance(0.4):
        return Conversation("schema", tuple(turns), schema)
    first = Turn(_joined(draw, schema, turns[0].message), turns[0].answer)
    return Conversation("schema", (first, *turns[1:]), system_message(draw, 0.15))
