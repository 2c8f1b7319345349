"""What response_format, structured_outputs and tool_choice become, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from camelid.errors import InvalidRequest
from camelid.server.decode import decode
from camelid.server.limits import Limits
from camelid.server.openai.bodies import ChatBody, CompletionBody
from camelid.server.openai.completion_requests import to_completion_requests
from camelid.server.openai.requests import to_chat_request
from camelid.types import ChatRequest, Grammar, GrammarKind, ToolChoice

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
CHAT, COMPLETION = msgspec.json.Decoder(ChatBody), msgspec.json.Decoder(CompletionBody)
PLACE = "response_format.json_schema"


def ask(**fields: Any) -> ChatRequest:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return to_chat_request(decode(json.dumps(body).encode(), CHAT), "tiny", 0, Limits())


def named(**fields: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", **fields}}}


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({}, None),
        ({"response_format": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar.json_object("response_format")),
        (named(), Grammar.json_object(f"{PLACE}.schema")),
        (named(schema=SCHEMA), Grammar.schema(SCHEMA, f"{PLACE}.schema", is_lenient=True)),
        (named(schema=SCHEMA, strict=False), Grammar.schema(SCHEMA, f"{PLACE}.schema", is_lenient=True)),
        (named(schema=SCHEMA, strict=True, description="d"), Grammar.schema(SCHEMA, f"{PLACE}.schema")),
        ({"structured_outputs": {"json": SCHEMA}}, Grammar.schema(SCHEMA, "structured_outputs.json")),
        ({"structured_outputs": {"json_object": True}}, Grammar.json_object("structured_outputs.json_object")),
        ({"structured_outputs": {"json_object": False}}, None),
        (
            {"structured_outputs": {"regex": "a+"}},
            Grammar(GrammarKind.REGEX, "a+", "structured_outputs.regex"),
        ),
        (
            {"structured_outputs": {"choice": ["a", "b"]}},
            Grammar(GrammarKind.LARK, 'start: "a" | "b"', "structured_outputs.choice"),
        ),
        (
            {"structured_outputs": {"grammar": 'start: "a"'}},
            Grammar(GrammarKind.LARK, 'start: "a"', "structured_outputs.grammar"),
        ),
        ({"guided_json": '{"type": "null"}'}, Grammar.schema({"type": "null"}, "guided_json")),
        ({"guided_regex": "a"}, Grammar(GrammarKind.REGEX, "a", "guided_regex")),
        ({"guided_choice": ["a"]}, Grammar(GrammarKind.LARK, 'start: "a"', "guided_choice")),
        ({"guided_grammar": 'root ::= "a"'}, Grammar(GrammarKind.GBNF, 'root ::= "a"', "guided_grammar")),
    ],
)
def test_a_format_becomes_a_grammar(fields: dict[str, Any], grammar: Grammar | None) -> None:
    assert ask(**fields).generation.grammar == grammar


def test_a_plain_completion_has_the_extensions_too() -> None:
    body = json.dumps({"prompt": "a", "guided_regex": "b+"}).encode()
    [request] = to_completion_requests(decode(body, COMPLETION), "tiny", 0, Limits())
    assert request.generation.grammar == Grammar(GrammarKind.REGEX, "b+", "guided_regex")


@pytest.mark.parametrize(
    ("choice", "expected", "num_tools"),
    [
        ({}, ToolChoice(), 2),
        ({"tool_choice": "auto"}, ToolChoice(), 2),
        ({"tool_choice": "none"}, ToolChoice(), 0),
        ({"parallel_tool_calls": False}, ToolChoice(allows_several=False), 2),
        ({"tool_choice": "required"}, ToolChoice(is_required=True), 2),
        ({"tool_choice": "required", "parallel_tool_calls": False}, ToolChoice(True, allows_several=False), 2),
        ({"tool_choice": function("g")}, ToolChoice(True, ("g",), allows_several=False), 2),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("f")]}}},
            ToolChoice(names=("f",)),
            2,
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": TOOLS}}},
            ToolChoice(True, ("f", "g")),
            2,
        ),
    ],
)
def test_a_tool_choice_says_what_is_asked(choice: dict[str, Any], expected: ToolChoice, num_tools: int) -> None:
    request = ask(tools=TOOLS, **choice)
    assert (request.tool_choice, len(request.tools)) == (expected, num_tools)


def test_a_strict_function_is_a_strict_tool() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}
    assert [spec.is_strict for spec in ask(tools=[tool, TOOLS[1]]).tools] == [True, False]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
        ({"response_format": {"type": "json_schema"}}, PLACE),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, f"{PLACE}.name"),
        (named(schema=SCHEMA, strict="yes"), f"{PLACE}.strict"),
        (named(shema=SCHEMA), f"{PLACE}.shema"),
        (named(schema={"description": "x" * 70_000}), f"{PLACE}.schema"),
        ({"structured_outputs": {"xml": 1}}, "structured_outputs.xml"),
        ({"structured_outputs": {"regex": 1}}, "structured_outputs.regex"),
        ({"structured_outputs": {"regex": "a" * 5000}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", 1]}}, "structured_outputs.choice"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_choice": [""]}, "guided_choice"),
        ({"guided_regex": "a", "guided_json": {}}, "guided_regex"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
        ({"guided_regex": "a", "min_tokens": 3}, "min_tokens"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes", "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": {"type": "custom"}, "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": function("h"), "tools": TOOLS}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "function"}, "tools": TOOLS}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "allowed_tools"}, "tools": TOOLS}, "tool_choice.allowed_tools.tools"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x", "tools": TOOLS}}, "tools": TOOLS},
            "tool_choice.allowed_tools.mode",
        ),
        (
            {
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("h")]}},
                "tools": TOOLS,
            },
            "tool_choice.allowed_tools.tools[0].function.name",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.field == field
    assert caught.value.message


def test_a_schema_that_is_nested_without_end_is_refused() -> None:
    deep = b'{"items":' * 5000 + b"{}" + b"}" * 5000
    body = b'{"messages":[{"role":"user","content":"a"}],"guided_json":' + deep + b"}"
    with pytest.raises(InvalidRequest):
        to_chat_request(decode(body, CHAT), "tiny", 0, Limits())
