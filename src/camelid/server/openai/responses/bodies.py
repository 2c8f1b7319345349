"""What clients of the Responses API send, as typed bodies; unknown fields are refused.

Only shapes live here; what they mean is `items.py` and `requests.py`. A field of type `Refused` is one that Camelid
cannot honour, or only in the value that asks for nothing: it is declared so that its refusal can say why. Source: the
request types of the openai package, 3.52.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ..bodies import Refused

Status = Literal["in_progress", "completed", "incomplete"]


class _Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Strict: unknown fields are an error."""


class InputText(_Body, tag_field="type", tag="input_text"):
    """A part of what a user, a developer or a function said."""

    text: str
    prompt_cache_breakpoint: Any = None  # prefixes are cached wherever they end


class OutputText(_Body, tag_field="type", tag="output_text"):
    """A part of what the model said. Annotations and log-probabilities are what a client sends back with it."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class OutputRefusal(_Body, tag_field="type", tag="refusal"):
    """Refused: the models have no separate refusals."""

    refusal: Refused = None


class InputImage(msgspec.Struct, tag_field="type", tag="input_image"):
    """Refused: there is no model that sees."""


class InputFile(msgspec.Struct, tag_field="type", tag="input_file"):
    """Refused: files are not read."""


class InputAudio(msgspec.Struct, tag_field="type", tag="input_audio"):
    """Refused: there is no model that hears."""


Part = InputText | OutputText | OutputRefusal | InputImage | InputFile | InputAudio


class InputMessage(_Body, tag_field="type", tag="message"):
    """A message. `type` may be left out; `id`, `status` and `phase` are what a client sends back."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    id: str | None = None
    status: Status | None = None
    phase: str | None = None


class FunctionCall(_Body, tag_field="type", tag="function_call"):
    """A call that the model made."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class FunctionCallOutput(_Body, tag_field="type", tag="function_call_output"):
    """What a function returned."""

    call_id: str
    output: str | list[InputText | InputImage | InputFile]
    id: str | None = None
    name: str | None = None
    status: Status | None = None


class ReasoningItem(_Body, tag_field="type", tag="reasoning"):
    """What a model thought before: passed over, as models' own templates do with earlier thoughts."""

    id: str | None = None
    summary: list[Any] = msgspec.field(default_factory=list)
    content: list[Any] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class ItemReference(_Body, tag_field="type", tag="item_reference"):
    """Refused: items cannot be named without their response."""

    id: str


Item = InputMessage | FunctionCall | FunctionCallOutput | ReasoningItem | ItemReference


class FunctionTool(_Body, tag_field="type", tag="function"):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Reasoning(_Body):
    """How much the model is to think: no model here thinks on request."""

    effort: Refused = None
    summary: Refused = None
    generate_summary: Refused = None


class TextConfig(_Body):
    """What form the text has."""

    format: dict[str, Any] | None = None
    verbosity: Refused = None


class ResponseStreamOptions(_Body):
    """How a stream is written."""

    include_obfuscation: bool | None = None


_ITEM_SCHEMA = {"items": {"anyOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in Item.__args__]}}
Items = Annotated[list[dict[str, Any]], msgspec.Meta(extra_json_schema=_ITEM_SCHEMA)]  # each becomes an `Item`


class _Prompt(_Body):
    """What a response and the counting of its tokens share. Null is the same as absent."""

    model: str | None = None
    input: str | Items | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    truncation: Refused = None
    conversation: Refused = None


class CountBody(_Prompt, kw_only=True):
    """The body of POST /v1/responses/input_tokens."""

    personality: Refused = None


class ResponseBody(_Prompt, kw_only=True):
    """The body of POST /v1/responses."""

    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = None
    include: list[str] | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    metadata: dict[str, str] | None = None
    # labels and hints that change nothing about the answer
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    # Camelid's own, with the names that the other routes have
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    # honoured only in their neutral value, see requests.NEUTRAL
    background: Refused = None
    prompt_cache_retention: Refused = None
    service_tier: Refused = None
    # refused
    access_programs: Refused = None
    context_management: Refused = None
    image: Refused = None
    moderation: Refused = None
    prompt: Refused = None
    prompt_cache_options: Refused = None
