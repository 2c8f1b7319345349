"""From the items of a Responses conversation to messages, and back to the items that a client may list.

The API cuts a conversation finer than chat does: each call of a function is an item of its own. Here they become the
turns that chat templates know. Nothing here knows HTTP, the store or the runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import Message, Role, ToolCall

from ...decode import convert
from . import bodies
from .bodies import FunctionCall, FunctionCallOutput, InputMessage, Item, ItemReference, ReasoningItem

_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def read_items(given: str | Sequence[Mapping[str, Any]] | None) -> tuple[Item, ...]:
    """Return the input of a body as items; a text is a message of the user. Raises InvalidRequest naming the place."""
    if given is None:
        return ()
    if isinstance(given, str):
        return (InputMessage(role="user", content=given),)
    return tuple(convert({"type": "message", **item}, Item, f"input[{index}]") for index, item in enumerate(given))


def to_messages(items: Sequence[Item], earlier: Sequence[Message]) -> tuple[Message, ...]:
    """Return the conversation that `items` make behind `earlier`. Raises InvalidRequest naming the place."""
    messages = list(earlier)
    called = {call.id: call.name for message in earlier for call in message.tool_calls}
    for index, item in enumerate(items):
        place = f"input[{index}]"
        match item:
            case InputMessage():
                messages.append(Message(_role(item), _text(item.content, item.role, place)))
            case FunctionCall():
                called[item.call_id] = item.name
                _add_call(messages, item, place, is_first=index == 0)
            case FunctionCallOutput():
                messages.append(_output(item, called, place))
            case ReasoningItem():
                pass
            case ItemReference():
                raise InvalidRequest(
                    f"{place}.type 'item_reference' is not supported",
                    field=f"{place}.type",
                    hint="send the item itself, or name its response in previous_response_id",
                )
    return tuple(messages)


def listed(items: Sequence[Item], token: str) -> tuple[dict[str, Any], ...]:
    """Return `items` as they are shown to who lists a response's input. `token` makes the ids that are missing."""
    shown = []
    for index, item in enumerate(items):
        kind = str(item.__struct_config__.tag)
        values = {name: value for name in item.__struct_fields__ if (value := getattr(item, name)) is not None}
        if isinstance(item, InputMessage):
            values["content"] = [_part(part, item.role) for part in _parts(item.content)]
        elif isinstance(item, FunctionCallOutput) and not isinstance(item.output, str):
            values["output"] = [_part(part, "user") for part in item.output]
        own = {"id": f"{_PREFIXES[kind]}_{token}i{index}", "type": kind, "status": "completed"}
        shown.append({**own, **values})
    return tuple(shown)


def answer_message(output: Sequence[Mapping[str, Any]]) -> Message:
    """Return the assistant's turn that the output items of a response make, for the turns that follow it."""
    texts = [part["text"] for item in output if item["type"] == "message" for part in item["content"]]
    calls = [item for item in output if item["type"] == "function_call"]
    return Message(
        "assistant",
        "".join(texts),
        tuple(ToolCall(call["call_id"], call["name"], call["arguments"]) for call in calls),
    )


def _role(item: InputMessage) -> Role:
    return "system" if item.role == "developer" else item.role


def _add_call(messages: list[Message], item: FunctionCall, place: str, *, is_first: bool) -> None:
    """Add a call to the assistant's turn that it belongs to; one that opens the input opens a turn."""
    try:
        json.loads(item.arguments)
    except ValueError as error:
        field = f"{place}.arguments"
        raise InvalidRequest(f"{field} must be JSON text, got {item.arguments[:80]!r}", field=field) from error
    call = ToolCall(item.call_id, item.name, item.arguments)
    if messages and messages[-1].role == "assistant" and not is_first:
        messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
    else:
        messages.append(Message("assistant", "", (call,)))


def _output(item: FunctionCallOutput, called: Mapping[str, str], place: str) -> Message:
    name = called.get(item.call_id)
    if name is None or item.name not in (None, name):
        field, given = (f"{place}.call_id", item.call_id) if name is None else (f"{place}.name", item.name or "")
        raise InvalidRequest(f"{field} is {given[:80]!r}, which no earlier function_call has", field=field)
    text = item.output if isinstance(item.output, str) else _text(item.output, "user", place, "output")
    return Message("tool", text, tool_call_id=item.call_id, name=name)


def _text(content: str | Sequence[bodies.Part], role: str, place: str, field: str = "content") -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        fits = isinstance(part, bodies.InputText) or (isinstance(part, bodies.OutputText) and role == "assistant")
        if not fits:
            where = f"{place}.{field}[{index}].type"
            wanted = "'output_text'" if role == "assistant" else "'input_text'"
            kind = part.__struct_config__.tag
            raise InvalidRequest(f"{where} is {kind!r}; a part of role {role} must be {wanted}", field=where)
        texts.append(part.text)  # type: ignore[union-attr]
    return "".join(texts)


def _parts(content: str | Sequence[bodies.Part]) -> Sequence[bodies.Part]:
    return [bodies.InputText(text=content)] if isinstance(content, str) else content


def _part(part: bodies.Part, role: str) -> dict[str, Any]:
    text = part.text if isinstance(part, (bodies.InputText, bodies.OutputText)) else ""
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}
