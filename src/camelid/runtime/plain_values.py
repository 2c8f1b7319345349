"""Messages and tools as plain mappings, the way OpenAI's API writes them, turned into ours. For library callers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import Message, ToolCall, ToolSpec


def to_message(given: Message | Mapping[str, Any]) -> Message:
    """Return a message; a mapping is one as OpenAI's API writes it. Raises InvalidRequest."""
    if isinstance(given, Message):
        return given
    unknown = given.keys() - {"role", "content", "tool_calls", "tool_call_id", "name"}
    if unknown or "role" not in given:
        raise InvalidRequest(f"a message needs a role and cannot have {sorted(unknown)}", field="messages")
    calls = tuple(call if isinstance(call, ToolCall) else _tool_call(call) for call in given.get("tool_calls") or ())
    return Message(given["role"], given.get("content") or "", calls, given.get("tool_call_id"), given.get("name"))


def _tool_call(given: Mapping[str, Any]) -> ToolCall:
    function = given.get("function", given)
    arguments = function.get("arguments", "{}")
    return ToolCall(
        str(given.get("id", "")),
        str(function.get("name", "")),
        arguments if isinstance(arguments, str) else json.dumps(arguments),
    )


def to_tool(given: ToolSpec | Mapping[str, Any]) -> ToolSpec:
    """Return a tool; a mapping may have OpenAI's envelope around it or not. Raises InvalidRequest."""
    if isinstance(given, ToolSpec):
        return given
    function = given.get("function", given)
    if not isinstance(function, Mapping) or not function.get("name"):
        raise InvalidRequest("a tool needs a name", field="tools")
    return ToolSpec(function["name"], function.get("description", ""), function.get("parameters", {}))
