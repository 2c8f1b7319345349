"""The bodies of Ollama's requests, as types. Unknown fields are passed over, as Ollama does.

Source: the API of Ollama 0.33.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Function(Struct):
    """A function that was called: its arguments are an object here, not text."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


class Call(Struct):
    """A tool call in the history."""

    function: Function
    id: str = ""


class Message(Struct):
    """A message of the history."""

    role: str
    content: str = ""
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    images: list[str] | None = None
    thinking: str | None = None


class ToolFunction(Struct):
    """What may be called."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


class Tool(Struct):
    """A tool."""

    function: ToolFunction
    type: str = "function"


class ChatBody(Struct):
    """POST /api/chat."""

    model: str = ""
    messages: list[Message] | None = None
    stream: bool = True
    tools: list[Tool] | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    format: Any = None
    think: bool | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0


class GenerateBody(Struct):
    """POST /api/generate."""

    model: str = ""
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] | None = None
    stream: bool = True
    raw: bool = False
    images: list[str] | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    format: Any = None
    think: bool | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0


class NameBody(Struct):
    """DELETE /api/delete: a model by its name; `name` is the older word."""

    model: str = ""
    name: str = ""


class ShowBody(NameBody):
    """POST /api/show."""

    verbose: bool = False


class TransferBody(NameBody):
    """POST /api/pull and /api/push. insecure: over plain HTTP."""

    insecure: bool = False
    stream: bool = True


class CopyBody(Struct):
    """POST /api/copy."""

    source: str = ""
    destination: str = ""
