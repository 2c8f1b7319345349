"""From a typed body to the request that the runtime understands. Nothing here knows HTTP or the runtime.

Every field is honoured, or has no effect by its nature (metadata, cache_control), or is refused by name.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import (
    ChatRequest,
    Generation,
    Grammar,
    Message,
    Role,
    Sampling,
    Stopping,
    ToolCall,
    ToolChoice,
    ToolSpec,
    ends_open,
)

from ..decode import check_depth
from ..limits import Limits
from . import bodies
from .bodies import CountBody, MessagesBody, TextBlock, ToolResultBlock, ToolUseBlock


def to_chat_request(body: MessagesBody, model: str, seed: int, sampling: Sampling, limits: Limits) -> ChatRequest:
    """Return what `body` asks of `model`, whose own sampling is `sampling`. Raises InvalidRequest naming the field."""
    given = {name: getattr(body, name) for name in ("temperature", "top_k", "top_p")}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if body.temperature is not None and not 0 <= body.temperature <= 1:
        raise InvalidRequest(f"temperature must be 0–1, got {body.temperature}", field="temperature")
    generation = Generation(
        replace(sampling, **chosen, seed=sampling.seed or seed),
        Stopping(max_tokens=body.max_tokens, stop=tuple(body.stop_sequences or ())),
        grammar=_grammar(body.output_config, limits),
    )
    return replace(to_prompt(body, model, limits), generation=generation)


def to_prompt(body: CountBody, model: str, limits: Limits) -> ChatRequest:
    """Return the conversation and the tools of `body`. Raises InvalidRequest naming the field."""
    if not 1 <= len(body.messages) <= limits.messages:
        raise InvalidRequest(f"messages must be 1–{limits.messages}, got {len(body.messages)}", field="messages")
    if body.thinking is not None and body.thinking.type != "disabled":
        raise InvalidRequest("thinking is not supported: this model does not think aloud", field="thinking")
    called: dict[str, str] = {}  # id of each call → name of its function
    messages = [Message("system", text)] if (text := _text(body.system or "")) else []
    for index, message in enumerate(body.messages):
        messages += _messages(message, f"messages.{index}", called)
    tools = _tools(body, limits)
    return ChatRequest(
        model,
        tuple(messages),
        tools,
        tool_choice=_tool_choice(body.tool_choice, tools),
        continues_last=ends_open(messages),
    )


def _messages(message: bodies.Message, place: str, called: dict[str, str]) -> list[Message]:
    """Return the turns that one message makes: results of tools are turns of their own, before the text."""
    if message.role not in ("user", "assistant"):
        raise InvalidRequest(f"{place}.role must be 'user' or 'assistant'", field=f"{place}.role")
    role: Role = "user" if message.role == "user" else "assistant"
    if isinstance(message.content, str):
        return [Message(role, message.content)]
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for index, block in enumerate(message.content):
        match block:
            case TextBlock():
                texts.append(block.text)
            case ToolUseBlock() if role == "assistant":
                called[block.id] = block.name
                calls.append(ToolCall(block.id, block.name, json.dumps(block.input, ensure_ascii=False)))
            case ToolResultBlock() if role == "user":
                results.append(_result(block, f"{place}.content.{index}", called))
            case bodies.ThinkingBlock():
                pass
            case _:
                kind = block.__struct_config__.tag
                raise InvalidRequest(f"{place}.content.{index}: {kind!r} is not supported here", field=place)
    own = [Message(role, "".join(texts), tuple(calls))] if texts or calls or not results else []
    return [*results, *own]


def _result(block: ToolResultBlock, place: str, called: dict[str, str]) -> Message:
    if block.tool_use_id not in called:
        field = f"{place}.tool_use_id"
        raise InvalidRequest(f"{field} is {block.tool_use_id[:80]!r}, which no earlier tool_use has", field=field)
    text = _text(block.content)
    shown = json.dumps({"error": text}) if block.is_error else text
    return Message("tool", shown, tool_call_id=block.tool_use_id, name=called[block.tool_use_id])


def _tools(body: CountBody, limits: Limits) -> tuple[ToolSpec, ...]:
    tools, choice = body.tools or [], body.tool_choice
    if len(tools) > limits.tools:
        raise InvalidRequest(f"tools must be at most {limits.tools}, got {len(tools)}", field="tools")
    for index, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            raise InvalidRequest(f"tools.{index}.type {tool.type!r} is not supported", field=f"tools.{index}.type")
        check_depth(tool.input_schema, limits.json_depth, f"tools.{index}.input_schema")
    if choice is not None and choice.type == "none":
        return ()
    return tuple(ToolSpec(tool.name, tool.description, tool.input_schema, bool(tool.strict)) for tool in tools)


def _tool_choice(choice: bodies.ToolChoice | None, tools: tuple[ToolSpec, ...]) -> ToolChoice:
    """Return what is asked of the model about its tools. Raises InvalidRequest naming the field."""
    if choice is None or choice.type == "none":
        return ToolChoice()
    several = not choice.disable_parallel_tool_use
    if choice.type == "auto":
        return ToolChoice(allows_several=several)
    if choice.type not in ("any", "tool"):
        raise InvalidRequest("tool_choice.type must be 'auto', 'any', 'tool' or 'none'", field="tool_choice.type")
    if not tools:
        raise InvalidRequest(f"tool_choice {choice.type!r} needs tools", field="tool_choice")
    if choice.type == "any":
        return ToolChoice(is_required=True, allows_several=several)
    if choice.name is None or all(tool.name != choice.name for tool in tools):
        raise InvalidRequest("tool_choice.name must be one of the tools' names", field="tool_choice.name")
    return ToolChoice(is_required=True, names=(choice.name,), allows_several=several)


def _grammar(config: bodies.OutputConfig | None, limits: Limits) -> Grammar | None:
    """Return what the text of an answer must be: what a schema describes, to the letter."""
    if config is None:
        return None
    if config.effort is not None:
        raise InvalidRequest("output_config.effort is not supported", field="output_config.effort")
    if config.format is None:
        return None
    if config.format.type != "json_schema" or config.format.schema is None:
        raise InvalidRequest("output_config.format must be a json_schema with a schema", field="output_config.format")
    check_depth(config.format.schema, limits.json_depth, "output_config.format.schema")
    return Grammar.schema(config.format.schema, "output_config.format.schema")


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)
