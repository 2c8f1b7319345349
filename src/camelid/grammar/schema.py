"""JSON schemas: what is refused before anything is compiled, and how one is handed to the library.

The library enforces a keyword or refuses it; here are only the bounds that keep its work small, and the white space
that an answer may have. Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from camelid.errors import BadGrammar
from camelid.types import Grammar, GrammarKind

from .limits import BOUNDS, MAX_BOUND, MAX_DEPTH, MAX_NODES

# Between two parts of JSON: one space, or one line end with its indentation. With any white space allowed a model may
# write line ends for ever.
WHITE_SPACE = r"[ ]|\n[ ]{0,32}"


def schema_source(grammar: Grammar) -> str:
    """Return a schema as the library reads it. Raises BadGrammar for what is no schema, or one over its limits."""
    schema = _parsed(grammar)
    _check(schema, grammar.field)
    own: dict[str, Any] = {"whitespace_pattern": WHITE_SPACE, "lenient": grammar.kind is GrammarKind.LENIENT_SCHEMA}
    if isinstance(schema, dict):
        schema = {**schema, "x-guidance": own}
    return json.dumps({"grammars": [{"json_schema": schema}]})


def _parsed(grammar: Grammar) -> Any:
    try:
        schema = json.loads(grammar.source)
    except (ValueError, RecursionError) as error:
        raise BadGrammar(f"{grammar.field} is no JSON: {error}", field=grammar.field) from error
    if not isinstance(schema, (dict, bool)):
        raise BadGrammar(f"{grammar.field} must be an object, got {_kind(schema)}", field=grammar.field)
    return schema


def _check(schema: Any, field: str) -> None:
    """Walk a schema level by level, so that no depth can hurt."""
    level, num_nodes = [schema], 0
    for _ in range(MAX_DEPTH + 1):
        num_nodes += len(level)
        if num_nodes > MAX_NODES:
            raise BadGrammar(f"{field} must have at most {MAX_NODES} objects and lists", field=field)
        for node in level:
            _check_bounds(node, field)
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise BadGrammar(f"{field} must be nested at most {MAX_DEPTH} levels deep", field=field)


def _children(node: Any) -> Iterator[Any]:
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    return (value for value in values if isinstance(value, (dict, list)))


def _check_bounds(node: Any, field: str) -> None:
    for name in BOUNDS if isinstance(node, Mapping) else ():
        value = node.get(name)
        if isinstance(value, (int, float)) and value > MAX_BOUND:
            raise BadGrammar(f"{field}: {name} must be at most {MAX_BOUND}, got {value}", field=field)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), "null")
