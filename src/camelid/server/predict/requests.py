"""From the body of `predict` to what is asked of the runtime, with the defaults of its profile. Pure.

What the README and the code of the model say of each other is told in docs/decisions/0053.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from camelid.errors import InvalidRequest
from camelid.runtime.generate_parameters import GenerateParameters, to_generation
from camelid.types import ChatRequest, Generation, Message, Sampling

from ..limits import Limits
from .bodies import AsBuiltBody, PredictBody

MAX_TOKENS = 512
MOST_TOKENS = 4096  # the README's bound
DEFAULTS = {"temperature": 0.1, "top_p": 0.75, "top_k": 40}
NUM_BEAMS = 4  # the README's
_PLAIN = Sampling()


@dataclass(frozen=True)
class Form:
    """How the answer is to be written."""

    stream: bool = False
    echo: bool = False  # the prompt comes first, and nothing but the text goes into the answer: as built
    has_list: bool = False  # several texts were asked for, and a list of them comes back
    scores: bool = False
    searches: bool = False


def to_request(body: PredictBody, model: str, seed: int, limits: Limits) -> tuple[ChatRequest, Form]:
    """Return what a body of the profile `documented` asks for. Raises InvalidRequest naming the field.

    Several beams are the default, and can neither be streamed nor guided: a stream or guidance that is asked for has
    one, unless both are said.
    """
    streams = bool(body.stream)
    is_guided = body.guidance_scale not in (None, 1)
    filled = _filled(body, 1 if streams or is_guided else NUM_BEAMS)
    generation = to_generation(filled, seed if body.seed is None else body.seed, _PLAIN)
    if streams and generation.beams is not None:
        raise InvalidRequest(
            f"num_beams must be 1 in a stream, got {body.num_beams}: the best answer is known at the end",
            field="num_beams",
            hint="leave stream or num_beams out",
        )
    if streams and generation.num_choices > 1:
        raise InvalidRequest(
            f"num_return_sequences must be 1 in a stream, got {body.num_return_sequences}",
            field="num_return_sequences",
        )
    form = Form(
        stream=streams,
        has_list=generation.num_choices > 1,
        scores=bool(body.output_scores),
        searches=generation.beams is not None,
    )
    return _chat(body, model, generation, limits), form


def to_as_built(body: AsBuiltBody, model: str, seed: int, limits: Limits) -> tuple[ChatRequest, Form]:
    """Return what a body of the profile `as-built` asks for. Raises InvalidRequest naming the field.

    `max_tokens` counts the prompt, but not in a stream.
    """
    names = ("temperature", "top_p", "top_k", "do_sample", "repetition_penalty", "no_repeat_ngram_size")
    given: dict[str, Any] = {name: getattr(body, name) for name in names}
    given["max_new_tokens" if body.stream else "max_length"] = _most(body.max_tokens)
    generation = to_generation(GenerateParameters(**given), seed if body.seed is None else body.seed, _PLAIN)
    return _chat(body, model, generation, limits), Form(stream=body.stream, echo=True)


def explained(error: InvalidRequest, body: PredictBody | AsBuiltBody) -> InvalidRequest:
    """Return an error with the name that its field has here: `max_tokens` where that is what counted the prompt."""
    if error.field != "max_length" or getattr(body, "max_length", None) is not None:
        return error
    message = error.message.replace("max_length", "max_tokens")
    return InvalidRequest(message, field="max_tokens", hint="max_new_tokens leaves the prompt out")


def ignored_fields(fields: object) -> list[str]:
    """Return the names in a decoded body that the profile `as-built` passes over."""
    known = AsBuiltBody.__struct_fields__
    return [name for name in fields if name not in known] if isinstance(fields, dict) else []


def _filled(body: PredictBody, num_beams: int) -> PredictBody:
    """Return a body with the README's defaults."""
    missing: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if getattr(body, name) is None}
    if body.num_beams is None:
        missing["num_beams"] = num_beams
    if body.max_length is None and body.max_new_tokens is None:
        missing["max_length"] = min(_most(MAX_TOKENS if body.max_tokens is None else body.max_tokens), MOST_TOKENS)
    elif body.max_tokens is not None:
        raise InvalidRequest("max_tokens cannot be combined with max_length or max_new_tokens", field="max_tokens")
    return msgspec.structs.replace(body, **missing)


def _most(max_tokens: int) -> int:
    if max_tokens < 1:
        raise InvalidRequest(f"max_tokens must be at least 1, got {max_tokens}", field="max_tokens")
    return max_tokens


def _chat(body: PredictBody | AsBuiltBody, model: str, generation: Generation, limits: Limits) -> ChatRequest:
    if (body.messages is None) == (body.prompt is None):
        raise InvalidRequest("messages are required, or a prompt in their place", field="messages")
    if body.messages is None:
        return ChatRequest(model, (Message("user", body.prompt or ""),), generation=generation)
    if not 1 <= len(body.messages) <= limits.messages:
        raise InvalidRequest(
            f"messages must have 1–{limits.messages} entries, got {len(body.messages)}", field="messages"
        )
    said = tuple(Message(message.role, message.content) for message in body.messages)
    return ChatRequest(model, said, generation=generation)
