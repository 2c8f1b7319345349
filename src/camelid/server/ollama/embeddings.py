"""POST /api/embed and the older POST /api/embeddings: bodies, what they ask for, and replies.

Source: the API of Ollama 0.33.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct

from camelid.errors import InvalidRequest
from camelid.types import EmbeddingRequest, Embeddings

from .replies import Clock


class EmbedBody(Struct):
    """POST /api/embed."""

    model: str = ""
    input: Any = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None


class OldEmbedBody(Struct):
    """POST /api/embeddings, of one text."""

    model: str = ""
    prompt: str = ""
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None


def inputs_of(body: EmbedBody) -> tuple[str, ...]:
    """Return the texts; none at all only loads the model. Raises InvalidRequest."""
    given = [body.input] if isinstance(body.input, str) else body.input
    if given is None or given == [""]:
        return ()
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise InvalidRequest("invalid input type", field="input")
    return tuple(given)


def to_embedding_request(body: EmbedBody, model: str) -> EmbeddingRequest:
    """Return what `body` asks of `model`. Dimensions that are 0 are all of them, as for Ollama."""
    return EmbeddingRequest(model, inputs_of(body), body.dimensions or None, may_cut=body.truncate is not False)


def to_reply(model: str, found: Embeddings, clock: Clock) -> dict[str, Any]:
    """Return the reply to /api/embed."""
    return {
        "model": model,
        "embeddings": [list(vector) for vector in found.vectors],
        "total_duration": time.perf_counter_ns() - clock.began,
        "load_duration": max((clock.ready or clock.began) - clock.began, 1),
        "prompt_eval_count": found.prompt_tokens,
    }
