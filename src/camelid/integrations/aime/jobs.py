"""A job of an AIME API server becomes a request of ours, and an answer becomes the outputs of a result.

All forms of input that AIME's endpoints send: a conversation (`chat_context`), a plain text (`text_context`, `text`),
and a new line (`prompt_input`) that follows either. Knows neither the wire nor the runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from camelid.errors import InvalidRequest
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Generation,
    Message,
    Role,
    Sampling,
    Stopping,
    ends_open,
)

USUAL = Sampling(temperature=0.8, top_k=40, top_p=0.9)  # of AIME's Llama 3 endpoints
USUAL_TOKENS = 2000
ROLES = ("system", "user", "assistant")
SECRETS = ("key", "client_session_auth_key", "auth_key")  # a job brings its client's key along

Request = ChatRequest | CompletionRequest
_FLOATS = ("temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
_COUNTS = ("top_k", "seed")


@dataclass(frozen=True)
class Job:
    """A job as it can be kept: without the client's key. `seed` is drawn once, so that it can be answered again."""

    id: str
    inputs: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Counts:
    """Tokens of one answer."""

    prompt: int = 0
    generated: int = 0


def to_job(data: Mapping[str, Any], seed: int) -> Job:
    """Return a job without what must not be kept."""
    return Job(str(data["job_id"]), {name: value for name, value in data.items() if name not in SECRETS}, seed)


def to_request(job: Job, model: str) -> Request:
    """Return what a job asks of `model`. Raises InvalidRequest naming the input."""
    inputs = job.inputs
    generation = _generation(inputs, job.seed)
    line = _text(inputs, "prompt_input") or _text(inputs, "text")
    if inputs.get("chat_context") in (None, "", []):
        prompt = _text(inputs, "text_context") + line
        if not prompt:
            raise InvalidRequest("the job has none of chat_context, text_context, prompt_input and text")
        return CompletionRequest(model, prompt, generation)
    messages = _messages(inputs["chat_context"])
    if line:
        messages = (*messages, Message("user", line))
    return ChatRequest(model, messages, generation=generation, continues_last=ends_open(messages))


def go_on(request: Request, text: str, num_tokens: int, changes: Mapping[str, Any]) -> Request | None:
    """Return a request for the rest of an answer under changed inputs; None where that is complete already.

    Raises InvalidRequest naming the input.
    """
    old = request.generation
    sampling = replace(old.sampling, **_sampling(changes))
    most = _count(changes, "max_gen_tokens") if "max_gen_tokens" in changes else old.stopping.max_tokens
    left = None if most is None else most - num_tokens
    if left is not None and left <= 0:
        return None
    generation = replace(old, sampling=sampling, stopping=replace(old.stopping, max_tokens=left))
    if isinstance(request, CompletionRequest):
        return replace(request, prompt=f"{request.prompt}{text}", generation=generation)
    *before, last = request.messages
    begun = Message("assistant", last.content + text) if request.continues_last else Message("assistant", text)
    messages = (*before, begun) if request.continues_last else (*request.messages, begun)
    return replace(request, messages=messages, generation=generation, continues_last=True)


def outputs(text: str, counts: Counts, model: str, context_length: int, error: str | None = None) -> dict[str, Any]:
    """Return the outputs of a result; with `error`, the text is what there was until then."""
    made: dict[str, Any] = {
        "text": text,
        "model_name": model,
        "num_generated_tokens": counts.generated,
        "prompt_length": counts.prompt,
        "max_seq_len": context_length,
        "current_context_length": counts.prompt + counts.generated,
        "metrics": {"in_num_tokens": counts.prompt, "out_num_tokens": counts.generated},
    }
    return made if error is None else {**made, "error": error}


def _messages(given: Any) -> tuple[Message, ...]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"chat_context is no JSON: {error}", field="chat_context") from error
    if not isinstance(given, list):
        raise InvalidRequest("chat_context must be a list of messages", field="chat_context")
    return tuple(_message(item, f"chat_context[{index}]") for index, item in enumerate(given))


def _message(given: Any, place: str) -> Message:
    if not isinstance(given, dict) or not isinstance(given.get("content"), str):
        raise InvalidRequest(f"{place} must have a role and a content", field=place)
    if given.get("role") not in ROLES:
        raise InvalidRequest(f"{place}.role must be one of {', '.join(ROLES)}", field=f"{place}.role")
    return Message(cast("Role", given["role"]), given["content"])


def _generation(inputs: Mapping[str, Any], seed: int) -> Generation:
    most = _count(inputs, "max_gen_tokens") if inputs.get("max_gen_tokens") is not None else USUAL_TOKENS
    sampling = replace(USUAL, **{"seed": seed, **_sampling(inputs)})
    return Generation(sampling, Stopping(max_tokens=most))


def _sampling(inputs: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in inputs.items() if value is not None}
    floats = {name: _number(given, name) for name in _FLOATS if name in given}
    return {**floats, **{name: _count(given, name) for name in _COUNTS if name in given}}


def _number(inputs: Mapping[str, Any], name: str) -> float:
    value = inputs[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(f"{name} must be a number, got {str(value)[:80]!r}", field=name)
    return float(value)


def _count(inputs: Mapping[str, Any], name: str) -> int:
    value = _number(inputs, name)
    if value != value // 1 or abs(value) > 2**53:
        raise InvalidRequest(f"{name} must be a whole number, got {value!r}", field=name)
    return int(value)


def _text(inputs: Mapping[str, Any], name: str) -> str:
    value = inputs.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a text", field=name)
    return value or ""
