"""Calls that a grammar makes are read by the splitter, and text beside them never is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.grammar.bytes_vocabulary import compiler, ids_of

from camelid.errors import InvalidRequest
from camelid.grammar import GrammarChecker, Matcher
from camelid.text.toolcalls import ToolCallPiece, ToolCallSplitter
from camelid.text.toolcalls.grammar import call_grammar, needs_grammar, parameters_of
from camelid.types import Grammar, GrammarKind, ToolChoice, ToolSpec

CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/name"}}, "required": ["city"]}
WEATHER = ToolSpec("get_weather", "", {**CITY, "$defs": {"name": {"type": "string"}}, "additionalProperties": False})
TIME = ToolSpec('get "time" in Zürich')
STRICT = ToolSpec("get_weather", "", WEATHER.parameters, is_strict=True)
ONE = '{"name": "get_weather", "parameters": {"city": "Rome"}}'
OTHER = json.dumps({"name": TIME.name, "parameters": {"zone": 1}})
REQUIRED = ToolChoice(is_required=True)


@pytest.fixture(scope="module")
def checker() -> Iterator[GrammarChecker]:
    checker = GrammarChecker()
    yield checker
    checker.close()


def accepts(checker: GrammarChecker, source: str, text: str) -> bool:
    matcher: Matcher = compiler().begin(checker.prepare(Grammar(GrammarKind.CALLS, source)))
    if matcher.num_allowed(ids_of(text)) < len(ids_of(text)):
        return False
    for token in ids_of(text):
        matcher.take(token)
    mask = matcher.masks()[0]
    end = max(compiler()._vocabulary.end_ids)
    return mask is not None and bool(mask[end // 8] >> end % 8 & 1)


@pytest.mark.parametrize(
    ("choice", "text", "is_accepted"),
    [
        (REQUIRED, ONE, True),
        (REQUIRED, OTHER, True),
        (REQUIRED, f"{ONE}; {OTHER}; {ONE}", True),
        (REQUIRED, "Hello", False),
        (REQUIRED, '{"name": "get_weather", "parameters": {"town": "Rome"}}', False),
        (REQUIRED, '{"name": "nothing", "parameters": {}}', False),
        (ToolChoice(True, allows_several=False), ONE, True),
        (ToolChoice(True, allows_several=False), f"{ONE}; {ONE}", False),
        (ToolChoice(True, names=(TIME.name,)), ONE, False),
        (ToolChoice(True, names=(TIME.name,)), OTHER, True),
        (ToolChoice(names=("get_weather",)), "Hello!\nHow are you?", True),
        (ToolChoice(names=("get_weather",)), OTHER, False),
    ],
)
def test_a_choice_leaves_what_it_says(
    checker: GrammarChecker, choice: ToolChoice, text: str, is_accepted: bool
) -> None:
    tools = (WEATHER, TIME)
    assert accepts(checker, call_grammar(tools, choice, None), text) == is_accepted
    if is_accepted and text != "Hello!\nHow are you?":
        splitter = ToolCallSplitter([tool.name for tool in tools], has_grammar=True)
        pieces = splitter.push(text) + splitter.finish()
        written = [json.loads(call) for call in text.split("; ")]
        assert pieces == [ToolCallPiece(call["name"], json.dumps(call["parameters"])) for call in written]


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        ("The weather is fine.", True),
        (ONE, True),
        ('See: {"name": "x"}', True),
        ('{"answer": 42}', True),
        ("Code:\n{\n  int x;\n}", True),
        ('{"name": "get_weather", "parameters": {"city": 3}}', False),
        ('Well.\n {"name": "get_weather", "parameters": {"city": 3}}', False),
        ('<function=get_weather>{"city": 3}</function>', False),
    ],
)
def test_a_strict_tool_lets_the_model_speak_but_not_call_wrongly(
    checker: GrammarChecker, text: str, is_accepted: bool
) -> None:
    assert accepts(checker, call_grammar((STRICT,), ToolChoice(), None), text) == is_accepted


def test_an_answer_has_its_own_form_where_no_call_is_made(checker: GrammarChecker) -> None:
    source = call_grammar((WEATHER,), ToolChoice(), '{"type": "integer"}')
    assert [accepts(checker, source, text) for text in ("42", ONE, "fine")] == [True, True, False]


@pytest.mark.parametrize(
    ("choice", "tools", "has_answer", "needs"),
    [
        (ToolChoice(), (WEATHER,), False, False),
        (ToolChoice(allows_several=False), (WEATHER,), False, False),
        (ToolChoice(), (WEATHER,), True, True),
        (ToolChoice(), (STRICT,), False, True),
        (REQUIRED, (WEATHER,), False, True),
        (ToolChoice(names=("get_weather",)), (WEATHER,), False, True),
        (ToolChoice(), (), True, False),
    ],
)
def test_calls_are_left_to_the_model_unless_something_is_promised(
    choice: ToolChoice, tools: tuple[ToolSpec, ...], has_answer: bool, needs: bool
) -> None:
    assert needs_grammar(tools, choice, has_answer=has_answer) is needs


@pytest.mark.parametrize("kind", ["string", ["string", "null"]])
def test_arguments_that_cannot_be_an_object_are_refused(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match="the parameters of 'f' must describe an object"):
        parameters_of(ToolSpec("f", "", {"type": kind}))
    assert parameters_of(ToolSpec("f", "", {"type": ["object", "null"]})) == {"type": "object"}


def test_a_choice_that_leaves_no_tool_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no tool is left"):
        call_grammar((WEATHER,), ToolChoice(names=("other",)), None)
