"""What a schema may cost is bounded before anything is compiled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from camelid.errors import BadGrammar, InvalidRequest
from camelid.grammar.schema import WHITE_SPACE, schema_source
from camelid.types import MAX_GRAMMAR, MAX_REGEX, Generation, Grammar, GrammarKind, Stopping


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def test_a_schema_keeps_its_order_and_gets_our_white_space() -> None:
    schema = {"type": "object", "properties": {"z": {}, "a": {}}, "x-guidance": {"whitespace_pattern": ".*"}}
    [written] = json.loads(schema_source(Grammar.schema(schema, "format")))["grammars"]
    assert list(written["json_schema"]["properties"]) == ["z", "a"]
    assert written["json_schema"]["x-guidance"] == {"whitespace_pattern": WHITE_SPACE, "lenient": False}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (nested(66), "format must be nested at most 64 levels deep"),
        ({"anyOf": [{}] * 2000}, "format must have at most 2000 objects and lists"),
        ({"items": {"maxLength": 10_001}}, "format: maxLength must be at most 10000, got 10001"),
        ({"minItems": 1e9}, "format: minItems must be at most 10000, got 1000000000.0"),
        (["a"], "format must be an object, got a list"),
        (None, "format must be an object, got null"),
        ("a", "format must be an object, got a string"),
    ],
)
def test_a_schema_over_a_bound_is_refused_with_the_bound(schema: Any, message: str) -> None:
    with pytest.raises(BadGrammar) as caught:
        schema_source(Grammar.schema(schema, "format"))
    assert (caught.value.message, caught.value.field) == (message, "format")


def test_a_schema_at_its_bounds_is_taken() -> None:
    for schema in (nested(64), {"anyOf": [{}] * 1998}, {"maxLength": 10_000}, True):
        assert schema_source(Grammar.schema(schema, "format"))


@pytest.mark.parametrize(
    ("kind", "length", "most"),
    [(GrammarKind.REGEX, MAX_REGEX + 1, MAX_REGEX), (GrammarKind.GBNF, MAX_GRAMMAR + 1, MAX_GRAMMAR)],
)
def test_a_source_that_is_too_long_is_refused_when_it_is_made(kind: GrammarKind, length: int, most: int) -> None:
    with pytest.raises(BadGrammar, match=rf"guided must have 1–{most} characters, got {length}"):
        Grammar(kind, "a" * length, "guided")
    with pytest.raises(BadGrammar, match="got 0"):
        Grammar(kind, "", "guided")


@pytest.mark.parametrize("value", [{"a": float("nan")}, {1j: 2}, {"a": object()}])
def test_a_schema_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(BadGrammar, match="format is no JSON"):
        Grammar.schema(value, "format")


@pytest.mark.parametrize("stopping", [Stopping(min_tokens=3), Stopping(ignore_eos=True)])
def test_an_answer_that_must_go_on_cannot_have_a_grammar_that_ends(stopping: Stopping) -> None:
    with pytest.raises(InvalidRequest, match="cannot be kept together with format"):
        Generation(stopping=stopping, grammar=Grammar.json_object("format"))
