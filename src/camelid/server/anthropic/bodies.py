"""The bodies of Anthropic's requests, as types; unknown fields are refused.

Source: the Messages API, version 2023-06-01. Newer clients no longer send temperature, top_k and top_p; older ones do.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class TextBlock(Struct, tag="text", forbid_unknown_fields=True):
    """Plain text. `cache_control` asks for what happens anyway: prefixes are cached."""

    text: str
    cache_control: dict[str, Any] | None = None
    citations: Any = None


class ToolUseBlock(Struct, tag="tool_use", forbid_unknown_fields=True):
    """A call that the assistant made."""

    id: str
    name: str
    input: dict[str, Any]
    cache_control: dict[str, Any] | None = None


class ToolResultBlock(Struct, tag="tool_result", forbid_unknown_fields=True):
    """What a call gave."""

    tool_use_id: str
    content: str | list[TextBlock] = ""
    is_error: bool = False
    cache_control: dict[str, Any] | None = None


class ImageBlock(Struct, tag="image"):
    """An image, which the model cannot read."""


class DocumentBlock(Struct, tag="document"):
    """A document, which the model cannot read."""


class ThinkingBlock(Struct, tag="thinking"):
    """What a model thought before: passed over."""


Block = TextBlock | ToolUseBlock | ToolResultBlock | ImageBlock | DocumentBlock | ThinkingBlock


class Message(Struct, forbid_unknown_fields=True):
    """One turn."""

    role: str
    content: str | list[Block]


class Tool(Struct, forbid_unknown_fields=True):
    """A function that may be called."""

    name: str
    input_schema: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    type: str | None = None
    cache_control: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Struct, forbid_unknown_fields=True):
    """Whether a tool is to be called."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Struct, forbid_unknown_fields=True):
    """Whether the model is to think first."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class JsonFormat(Struct, forbid_unknown_fields=True):
    """What the text of an answer must be: JSON that a schema describes."""

    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(Struct, forbid_unknown_fields=True):
    """How the answer is to be. There are no degrees of effort."""

    format: JsonFormat | None = None
    effort: Any = None


class CountBody(Struct, forbid_unknown_fields=True):
    """POST /v1/messages/count_tokens."""

    model: str
    messages: list[Message]
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None


class MessagesBody(CountBody, forbid_unknown_fields=True, kw_only=True):
    """POST /v1/messages."""

    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
