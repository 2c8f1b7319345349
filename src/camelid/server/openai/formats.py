"""What an answer may look like, and whether it must be a call: `response_format`, `structured_outputs`, `tool_choice`.

Apart from the other fields because each of these is a small language of its own. OpenAI's forms are taken as its API
describes them; `structured_outputs`, and the older `guided_…` names for the same, are vLLM's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import Grammar, GrammarKind, ToolChoice, ToolSpec

from .bodies import ChatBody, CompletionBody
from .refusals import brief

_EXTENSIONS = ("json", "json_object", "regex", "choice", "grammar")
_OLDER_NAMES = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}


def answer_grammar(body: ChatBody | CompletionBody) -> Grammar | None:
    """Return what the text of an answer must be, None for anything. Raises InvalidRequest naming the field."""
    found = [(name, grammar) for name, grammar in _grammars(body) if grammar is not None]
    if len(found) > 1:
        raise InvalidRequest(f"{found[1][0]} cannot be given together with {found[0][0]}", field=found[1][0])
    return found[0][1] if found else None


def _grammars(body: ChatBody | CompletionBody) -> list[tuple[str, Grammar | None]]:
    found: list[tuple[str, Grammar | None]] = []
    if isinstance(body, ChatBody) and body.response_format is not None:
        found.append(("response_format", _response_format(body.response_format)))
    given = body.structured_outputs or {}
    for name in given:
        if name not in _EXTENSIONS:
            raise InvalidRequest(
                f"structured_outputs.{name[:40]} is not supported",
                field=f"structured_outputs.{name[:40]}",
                hint=f"it takes one of {', '.join(_EXTENSIONS)}",
            )
        found.append((f"structured_outputs.{name}", _extension(name, given[name], f"structured_outputs.{name}")))
    for older, name in _OLDER_NAMES.items():
        found.append((older, _extension(name, getattr(body, older), older)))
    return found


def _response_format(given: Mapping[str, Any]) -> Grammar | None:
    kind = given.get("type")
    if kind == "json_schema":
        _check_keys(given, {"type", "json_schema"}, "response_format")
        return _json_schema(given.get("json_schema"))
    if kind not in ("text", "json_object"):
        raise InvalidRequest(
            f"response_format.type must be 'text', 'json_object' or 'json_schema', got {brief(kind)}",
            field="response_format.type",
        )
    _check_keys(given, {"type"}, "response_format")
    return Grammar.json_object("response_format") if kind == "json_object" else None


def _json_schema(given: Any) -> Grammar:
    """Return the grammar of a named schema. It is enforced as far as it can be, and to the letter if it is strict."""
    place = "response_format.json_schema"
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{place} must be an object, got {brief(given)}", field=place)
    _check_keys(given, {"name", "description", "schema", "strict"}, place)
    if not isinstance(given.get("name"), str):
        raise InvalidRequest(f"{place}.name is required", field=f"{place}.name")
    strict, schema = given.get("strict"), given.get("schema")
    if not isinstance(strict, (bool, type(None))):
        raise InvalidRequest(f"{place}.strict must be true or false, got {brief(strict)}", field=f"{place}.strict")
    if schema is None:
        return Grammar.json_object(f"{place}.schema")
    return Grammar.schema(schema, f"{place}.schema", is_lenient=strict is not True)


def _extension(name: str, value: Any, field: str) -> Grammar | None:
    if value is None or (name == "json_object" and value is False):
        return None
    if name == "json_object":
        return Grammar.json_object(field)
    if name == "json":
        return (
            Grammar(GrammarKind.JSON_SCHEMA, value, field) if isinstance(value, str) else Grammar.schema(value, field)
        )
    if name == "choice":
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise InvalidRequest(f"{field} must be a list of texts, got {brief(value)}", field=field)
        return Grammar.choice(value, field)
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} must be a text, got {brief(value)}", field=field)
    if name == "regex":
        return Grammar(GrammarKind.REGEX, value, field)
    return Grammar(GrammarKind.GBNF if "::=" in value else GrammarKind.LARK, value, field)


def tool_choice(body: ChatBody, tools: Sequence[ToolSpec]) -> tuple[tuple[ToolSpec, ...], ToolChoice]:
    """Return the tools that the model is told of, and what is asked of it about them. Raises InvalidRequest.

    With `none` it is told of none.
    """
    given, several = body.tool_choice, body.parallel_tool_calls is not False
    if given in (None, "auto"):
        return tuple(tools), ToolChoice(allows_several=several)
    if given == "none":
        return (), ToolChoice()
    if not tools:
        raise InvalidRequest(f"tool_choice {brief(given)} needs tools", field="tool_choice")
    if given == "required":
        return tuple(tools), ToolChoice(is_required=True, allows_several=several)
    if not isinstance(given, Mapping) or given.get("type") not in ("function", "allowed_tools"):
        raise InvalidRequest(
            f"tool_choice must be 'auto', 'none', 'required', a function or allowed_tools, got {brief(given)}",
            field="tool_choice",
        )
    if given["type"] == "function":
        names = (_name(given, tools, "tool_choice"),)
        return tuple(tools), ToolChoice(is_required=True, names=names, allows_several=False)
    return tuple(tools), _allowed_tools(given.get("allowed_tools"), tools, several)


def _allowed_tools(given: Any, tools: Sequence[ToolSpec], several: bool) -> ToolChoice:
    place = "tool_choice.allowed_tools"
    if not isinstance(given, Mapping) or not isinstance(given.get("tools"), list) or not given["tools"]:
        raise InvalidRequest(f"{place}.tools must be a list of functions", field=f"{place}.tools")
    if given.get("mode") not in ("auto", "required"):
        raise InvalidRequest(f"{place}.mode must be 'auto' or 'required'", field=f"{place}.mode")
    names = tuple(_name(tool, tools, f"{place}.tools[{index}]") for index, tool in enumerate(given["tools"]))
    return ToolChoice(given["mode"] == "required", names, several)


def _name(given: Any, tools: Sequence[ToolSpec], place: str) -> str:
    """Return the name of a function that is chosen: one of the tools."""
    function = given.get("function") if isinstance(given, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or all(tool.name != name for tool in tools):
        raise InvalidRequest(
            f"{place}.function.name must be one of the tools' names, got {brief(name)}", field=f"{place}.function.name"
        )
    return name


def _check_keys(given: Mapping[str, Any], known: set[str], place: str) -> None:
    for name in given.keys() - known:
        raise InvalidRequest(f"unknown field '{place}.{name[:40]}'", field=f"{place}.{name[:40]}")
