"""Random JSON schemas, each with a value that is valid under it: what the grammar campaigns draw from.

Every schema is bounded (lengths, numbers of items), so that a model that follows it comes to an end. Nothing here knows
grammars or models.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Drawn = tuple[dict[str, Any], Any]  # a schema and a value that it allows

WORDS = (
    *("alpha", "beta", "city", "colour", "count", "date", "description", "email", "first name", "größe", "id", "kind"),
    *("label", "naïve", "price", "quantity", "street", "tags", "temperature", "title", "unit", "user_id", "zip code"),
)
TEXTS = (
    "Anna",
    "blue",
    "a longer text",
    "Zürich",
    "line\nbreak",
    'a "quoted" word',
    "日本語",
    "x",
    "",
    "100 %",
    "🦙 llama",
)
PATTERNS = (
    (r"^[A-Z]{2,4}-[0-9]{3}$", "ABC-123"),
    (r"^\+?[0-9 ]{5,12}$", "+49 123 456"),
    (r"^[a-z_]{1,10}$", "snake_case"),
    (r"^#[0-9a-f]{6}$", "#00ff7f"),
    (r"^(red|green|blue)( light)?$", "red light"),
)
FORMATS = (
    ("date", "2024-02-29"),
    ("time", "10:15:00Z"),
    ("date-time", "2024-02-29T10:15:00Z"),
    ("email", "a.b@example.com"),
    ("ipv4", "192.0.2.1"),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
)
MAX_DEPTH = 3


def random_schema(random: Random) -> Drawn:
    """Return an object schema, sometimes with definitions that it refers to, and a value."""
    schema, value = _object(random, 0)
    if random.random() < 0.1:  # a list of any length, which some models never end
        inner, inner_value = _any(random, MAX_DEPTH - 1)
        schema["$defs"] = {"part": inner, "node": _node({"$ref": "#/$defs/part"})}
        schema["properties"] |= {"part": {"$ref": "#/$defs/part"}, "list": {"$ref": "#/$defs/node"}}
        schema["required"] += ["part", "list"]
        value |= {"part": inner_value, "list": {"value": inner_value, "next": {"value": inner_value, "next": None}}}
    return schema, value


def _node(value: dict[str, Any]) -> dict[str, Any]:
    following = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}
    properties = {"value": value, "next": following}
    return {
        "type": "object",
        "properties": properties,
        "required": ["value", "next"],
        "additionalProperties": False,
    }


def _any(random: Random, depth: int) -> Drawn:
    flat = (_text, _text, _pattern, _format, _integer, _integer, _enum, _boolean, _const, _choice)
    deep = (_object, _array, _any_of, _map)
    makers: tuple[Callable[[Random, int], Drawn], ...] = flat if depth >= MAX_DEPTH else (*flat, *deep)
    return random.choice(makers)(random, depth)


def _object(random: Random, depth: int) -> Drawn:
    names = random.sample(WORDS, random.randint(1, 5))
    drawn = {name: _any(random, depth + 1) for name in names}
    required = [name for name in names if random.random() < 0.8]
    kept = [name for name in names if name in required or random.random() < 0.5]
    schema = {
        "type": "object",
        "properties": {name: schema for name, (schema, _) in drawn.items()},
        "required": required,
        "additionalProperties": False,
    }
    return schema, {name: drawn[name][1] for name in kept}


def _map(random: Random, depth: int) -> Drawn:
    inner, value = _any(random, depth + 1)
    names = {"^[a-z]{1,8}$": inner}  # a name of any length has no end
    schema = {"type": "object", "patternProperties": names, "additionalProperties": False, "maxProperties": 3}
    return schema, dict.fromkeys(random.sample(("city", "count", "id", "kind"), random.randint(0, 3)), value)


def _array(random: Random, depth: int) -> Drawn:
    inner, value = _any(random, depth + 1)
    least = random.randint(0, 2)
    most = least + random.randint(0, 3)
    return {"type": "array", "items": inner, "minItems": least, "maxItems": most}, [value] * random.randint(least, most)


def _any_of(random: Random, depth: int) -> Drawn:
    drawn = [_any(random, depth + 1) for _ in range(random.randint(2, 3))]
    return {"anyOf": [schema for schema, _ in drawn]}, random.choice(drawn)[1]


def _text(random: Random, depth: int) -> Drawn:
    value = random.choice(TEXTS)
    return {"type": "string", "maxLength": len(value) + random.choice((0, 3, 10, 40, 100))}, value


def _pattern(random: Random, depth: int) -> Drawn:
    pattern, value = random.choice(PATTERNS)
    return {"type": "string", "pattern": pattern}, value


def _format(random: Random, depth: int) -> Drawn:
    name, value = random.choice(FORMATS)
    bound = {"maxLength": 24} if name == "email" else {}
    return {"type": "string", "format": name, **bound}, value


def _integer(random: Random, depth: int) -> Drawn:
    low = random.choice((-1000, -1, 0, 1, 18))
    high = low + random.choice((0, 5, 130, 10_000))
    return {"type": "integer", "minimum": low, "maximum": high}, random.randint(low, high)


def _enum(random: Random, depth: int) -> Drawn:
    values: list[Any] = [*random.sample(WORDS, random.randint(1, 6)), random.randint(-9, 9), None]
    return {"enum": values}, random.choice(values)


def _boolean(random: Random, depth: int) -> Drawn:
    return {"type": "boolean"}, random.random() < 0.5


def _const(random: Random, depth: int) -> Drawn:
    value = random.choice(("fixed", 7, True, {"nested": ["constant", 1]}))
    return {"const": value}, value


def _choice(random: Random, depth: int) -> Drawn:
    return {"type": ["string", "null"], "maxLength": 15}, random.choice(("maybe", None))
