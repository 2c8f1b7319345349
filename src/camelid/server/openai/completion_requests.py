"""Plain completion: from a typed body to the requests that the runtime understands, one for each prompt.

Every field is honoured, or has no effect by its nature, or is refused by name. Whether the model can fill in a `suffix`
is the runtime's to say. Nothing here knows HTTP or the runtime.
"""

from __future__ import annotations

from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import MAX_CHOICES, MAX_TOP_LOGPROBS, CompletionRequest, Generation, Sampling

from ..limits import Limits
from .bodies import CompletionBody
from .refusals import refuse_fields
from .requests import NEUTRAL, PLAIN, REFUSED, Form, include_usage, to_generation

MAX_TOKENS = 16  # OpenAI's default for plain completions


def to_completion_requests(
    body: CompletionBody, model: str, seed: int, limits: Limits, recommended: Sampling = PLAIN
) -> list[CompletionRequest]:
    """Return one request for each prompt of `body`. Raises InvalidRequest naming the field."""
    refuse_fields(body, REFUSED, NEUTRAL)
    if body.logprobs is not None and not 0 <= body.logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"logprobs must be 0–{MAX_TOP_LOGPROBS}, got {body.logprobs}", field="logprobs")
    if body.suffix and body.echo:
        raise InvalidRequest("echo cannot be combined with suffix", field="echo")
    generation = _generation(body, seed, recommended)
    echo, suffix = bool(body.echo), body.suffix or None
    return [CompletionRequest(model, prompt, generation, suffix, echo) for prompt in _prompts(body, limits)]


def completion_form(body: CompletionBody, model: str) -> Form:
    """Return how the reply to `body` is written; `model` is the name that it shows."""
    return Form(
        model=model,
        stream=bool(body.stream),
        include_usage=include_usage(body),
        num_choices=_num_choices(body),
        logprobs=body.logprobs is not None,
        echo=bool(body.echo),
        best_of=_best_of(body),
        shows_answer=not _is_prompt_only(body),
    )


def _generation(body: CompletionBody, seed: int, recommended: Sampling) -> Generation:
    """Return what is asked of the engine; where only the prompt is wanted, that is one token, which is not shown."""
    max_tokens = MAX_TOKENS if body.max_tokens is None else body.max_tokens
    best_of = _best_of(body)
    ranks = best_of > _num_choices(body)
    top = 0 if body.logprobs is None and ranks else body.logprobs
    return to_generation(body, seed, recommended, 1 if _is_prompt_only(body) else max_tokens, top, best_of)


def _is_prompt_only(body: CompletionBody) -> bool:
    return bool(body.echo) and body.max_tokens == 0


def _num_choices(body: CompletionBody) -> int:
    return 1 if body.n is None else body.n


def _best_of(body: CompletionBody) -> int:
    """Return how many answers are written for each prompt. Raises InvalidRequest."""
    n = _num_choices(body)
    if body.best_of is None or body.best_of == n:
        return n
    if not n <= body.best_of <= MAX_CHOICES:
        raise InvalidRequest(f"best_of must be {n}–{MAX_CHOICES} (n is {n}), got {body.best_of}", field="best_of")
    if body.stream:
        raise InvalidRequest("best_of cannot be above n in a stream: the best is known at the end", field="best_of")
    return body.best_of


def _prompts(body: CompletionBody, limits: Limits) -> list[str | tuple[int, ...]]:
    """Return the prompts: text or ids each. A list of numbers is one prompt of ids."""
    if isinstance(body.prompt, str):
        return [body.prompt]
    if not body.prompt:
        raise InvalidRequest("prompt must not be empty", field="prompt")
    if isinstance(body.prompt[0], int):
        return [_ids(body.prompt, "prompt")]
    if len(body.prompt) > limits.prompts:
        raise InvalidRequest(f"prompt must have at most {limits.prompts} texts, got {len(body.prompt)}", field="prompt")
    return [
        entry if isinstance(entry, str) else _ids(entry if isinstance(entry, list) else None, f"prompt[{index}]")
        for index, entry in enumerate(body.prompt)
    ]


def _ids(values: list[Any] | None, field: str) -> tuple[int, ...]:
    if not values or any(not isinstance(value, int) or not 0 <= value < 2**31 for value in values):
        raise InvalidRequest(f"{field} must be text, or token ids from 0 to {2**31 - 1}", field=field)
    return tuple(values)
