"""The form of a call as a grammar, so that an answer can be made a call that the splitter is sure to read.

It writes source text in Lark's notation and compiles nothing: this room knows no grammars. The form is Llama 3.1's
JSON, spaced as the models were taught, several calls with `; ` between them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import ToolChoice, ToolSpec

MAX_CALLS = 16  # in one answer that must be calls; a model may go on calling for ever

# Text in which the splitter finds no call: no line begins like one, and no tag is spelled out.
_TEXT = (
    r"TEXT: /(?s:.*)/ & ~/(?s:(.*\n)?[ \t]*\{\s*\"(name|type|function|parameters|arguments|id)\".*)/"
    r" & ~/(?s:.*<function=.*)/"
)
_SPACE = {"whitespace_pattern": "[ ]"}  # in arguments, at most one at a time


def needs_grammar(tools: Sequence[ToolSpec], choice: ToolChoice, *, has_answer: bool) -> bool:
    """Tell whether calls have to be well formed, and not only recognized. `has_answer`: the text has a form as well."""
    is_bound = choice.is_required or choice.names is not None or any(tool.is_strict for tool in tools)
    return bool(tools) and (is_bound or has_answer)


def parameters_of(tool: ToolSpec) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which always are an object. Raises InvalidRequest if they cannot be."""
    schema = dict(tool.parameters)
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise InvalidRequest(f"the parameters of {tool.name!r} must describe an object, got {kinds!r}", field="tools")
    return {**schema, "type": "object"}


def call_grammar(tools: Sequence[ToolSpec], choice: ToolChoice, answer: str | None) -> str:
    """Return the grammar of an answer that calls tools, or, where no call is required, of one that does not.

    `answer` is the JSON schema of an answer without calls, None for text. Raises InvalidRequest if no tool may be
    called.
    """
    callable_tools = [tool for tool in tools if choice.names is None or tool.name in choice.names]
    if not callable_tools:
        raise InvalidRequest("no tool is left that may be called", field="tool_choice")
    several = f' ("; " call){{0,{MAX_CALLS - 1}}}' if choice.allows_several else ""
    numbers = range(len(callable_tools))
    rules = [
        f"start: {'calls' if choice.is_required else 'calls | answer'}",
        f"calls: call{several}",
        "call: " + " | ".join(f"call_{number}" for number in numbers),
        *(_rule(number, tool) for number, tool in zip(numbers, callable_tools, strict=True)),
    ]
    if not choice.is_required:
        rules += [f"answer: %json {answer}"] if answer is not None else ["answer: TEXT", _TEXT]
    return "\n".join(rules)


def _rule(number: int, tool: ToolSpec) -> str:
    """Return the rules of one tool's calls. The schema stands alone, so that its references find their targets."""
    head = f'{{"name": {json.dumps(tool.name)}, "parameters": '
    schema: Mapping[str, Any] = parameters_of(tool) | {"x-guidance": {**_SPACE, "lenient": not tool.is_strict}}
    return (
        f'call_{number}: {json.dumps(head)} parameters_{number} "}}"\nparameters_{number}: %json {json.dumps(schema)}'
    )
