"""Conversations as templates see them: JSON values in the shape that Hugging Face's templates expect, and what is
checked.

Separate because the built-in formats and the Jinja ones must mean the same by a message, a tool and an option.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from camelid.errors import InvalidRequest
from camelid.types import Message, Role, ToolSpec

# What a caller may tell a template, by name and type. Anything else could override what we tell it.
OPTIONS: Mapping[str, type] = {
    "date_string": str,
    "tools_in_user_message": bool,
    "builtin_tools": list,
    "enable_thinking": bool,
    "thinking": bool,
    "reasoning_effort": str,
}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for an option that templates are not told, or one of the wrong type."""
    for name, value in options.items():
        kind = OPTIONS.get(name)
        if kind is None:
            raise InvalidRequest(f"{name!r} is no option of chat templates; they are {', '.join(OPTIONS)}", field=name)
        is_listed = not isinstance(value, list) or all(isinstance(item, str) for item in value)
        if not isinstance(value, kind) or not is_listed:
            raise InvalidRequest(f"{name} must be a {kind.__name__}, got {value!r}", field=name)


def check_role(message: Message) -> str:
    """Return the message's role. Raises InvalidRequest if it is none.

    Templates write roles between signs that make them control tokens ('<|' + role + '|>'): no other text may be one.
    """
    if message.role not in get_args(Role):
        raise InvalidRequest(f"role must be one of {', '.join(get_args(Role))}, got {message.role!r}", field="messages")
    return message.role


def message_as_json(message: Message) -> dict[str, Any]:
    """Return the message as a mapping, with only the fields that it has."""
    value: dict[str, Any] = {"role": check_role(message), "content": message.content}
    if message.tool_calls:
        value["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": parsed_arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        value["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        value["name"] = message.name
    return value


def tool_as_json(tool: ToolSpec) -> dict[str, Any]:
    """Return the tool as a mapping, in the order in which models have seen it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def parsed_arguments(text: str) -> Any:
    """Return a call's arguments as an object; text that is none stays text, as the model wrote it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
