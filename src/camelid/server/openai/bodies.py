"""What OpenAI's clients send, as typed bodies.

Only shapes live here; what they mean is `requests.py`. A field that no struct names is refused as unknown. A field of
type `Any` is one that Camelid cannot honour: it is declared so that its refusal can say why. Source: the request types
of the openai package, 3.52.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from camelid.runtime.rule_parameters import RuleParameters

Refused = Any


class _Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Strict: unknown fields are an error."""


class TextPart(_Body, tag_field="type", tag="text"):
    """A part of a message's content."""

    text: str


class ImagePart(_Body, tag_field="type", tag="image_url"):
    """Refused: there is no model that sees."""

    image_url: Refused = None


class AudioPart(_Body, tag_field="type", tag="input_audio"):
    """Refused: there is no model that hears."""

    input_audio: Refused = None


class FilePart(_Body, tag_field="type", tag="file"):
    """Refused: files are not read."""

    file: Refused = None


class RefusalPart(_Body, tag_field="type", tag="refusal"):
    """Refused: the models have no separate refusals."""

    refusal: Refused = None


Content = str | list[TextPart | ImagePart | AudioPart | FilePart | RefusalPart]


class CalledFunction(_Body):
    """The name and the JSON arguments of a call."""

    name: str
    arguments: str


class AssistantCall(_Body):
    """A call in an earlier message of the assistant. `index` is what a client keeps when it glues a stream together."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


class SystemMessage(_Body, tag_field="role", tag="system"):
    """Instructions."""

    content: Content
    name: Refused = None


class DeveloperMessage(_Body, tag_field="role", tag="developer"):
    """Instructions, by OpenAI's newer name."""

    content: Content
    name: Refused = None


class UserMessage(_Body, tag_field="role", tag="user"):
    """What the user said."""

    content: Content
    name: Refused = None


class AssistantMessage(_Body, tag_field="role", tag="assistant"):
    """What the assistant said, or which functions it called."""

    content: Content | None = None
    tool_calls: list[AssistantCall] | None = None
    name: Refused = None
    refusal: Refused = None
    audio: Refused = None
    function_call: Refused = None
    annotations: Refused = None
    reasoning_content: Refused = None


class ToolMessage(_Body, tag_field="role", tag="tool"):
    """What a function returned."""

    content: Content
    tool_call_id: str
    name: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(_Body):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Body):
    """A tool of type function, the only type there is."""

    type: Literal["function"]
    function: Function


class StreamOptions(_Body):
    """How a stream is written."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Generation(RuleParameters, kw_only=True, forbid_unknown_fields=True):
    """What chat and plain completion share, with Transformers' searches and rules as an extension."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    user: str | None = None
    # Camelid's own, with the names that Transformers and vLLM use
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    # vLLM's, see formats.py
    structured_outputs: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None


class ChatBody(_Generation, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    # as vLLM has them: the answer goes on with the assistant's last message
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    # labels and hints that change nothing about the answer
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    # honoured only in their neutral value, see requests.NEUTRAL
    modalities: Refused = None
    prompt_cache_retention: Refused = None
    reasoning_effort: Refused = None
    service_tier: Refused = None
    store: Refused = None
    verbosity: Refused = None
    # refused
    audio: Refused = None
    function_call: Refused = None
    functions: Refused = None
    moderation: Refused = None
    prediction: Refused = None
    prompt_cache_options: Refused = None
    web_search_options: Refused = None


class CompletionBody(_Generation, kw_only=True):
    """The body of POST /v1/completions. `prompt` is text or token ids, or a list of one of them."""

    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None
