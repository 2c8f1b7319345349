"""Texts through one model, and their vectors back: encode, fit, submit in groups, gather.

The counterpart of `turn.py` for models that embed. What a vector is made of, the engine decides.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from array import array
from collections.abc import Sequence

from camelid.engine.request import EmbedRequest
from camelid.errors import ContextOverflow, InvalidRequest, RequestsFailed
from camelid.text.tokenizer import Tokenizer
from camelid.types import EmbeddingRequest, Embeddings

from .model import LoadedModel

GROUP_TEXTS = 64  # of one message to the engine: a few MB of vectors at most

Ids = tuple[int, ...]


async def embed(model: LoadedModel, request: EmbeddingRequest) -> Embeddings:
    """Return one vector for each input, of length 1.

    Raises ContextOverflow for an input that is too long and may not be cut, InvalidRequest, and what the engine raises.
    """
    dim = model.description.spec.dim
    if request.dimensions is not None and not 1 <= request.dimensions <= dim:
        raise InvalidRequest(f"dimensions must be 1–{dim} for this model, got {request.dimensions}", field="dimensions")
    texts = await asyncio.to_thread(_encode, model, request)
    groups = [texts[start : start + GROUP_TEXTS] for start in range(0, len(texts), GROUP_TEXTS)]
    found = await _all_of([asyncio.create_task(_submit(model, group)) for group in groups])
    vectors = (_vector(content) for group in found for content in group)
    return Embeddings(tuple(shortened(vector, request.dimensions) for vector in vectors), sum(map(len, texts)))


def shortened(vector: array[float], dimensions: int | None) -> array[float]:
    """Return the first dimensions of a vector, brought to length 1 again."""
    if dimensions is None or dimensions >= len(vector):
        return vector
    part = vector[:dimensions]
    length = math.sqrt(sum(value * value for value in part))
    return array("f", (value / length for value in part)) if length > 0 else part


def _encode(model: LoadedModel, request: EmbeddingRequest) -> list[Ids]:
    tokenizer = model.text.tokenizer
    return [_fitting(tokenizer, one, model.context_length, request) for one in request.inputs]


def _fitting(tokenizer: Tokenizer, given: str | Ids, limit: int, request: EmbeddingRequest) -> Ids:
    """Return the ids of one input, cut if they are too many and may be: what ends a text stays at its end."""
    ids = tuple(tokenizer.encode_whole(given)) if isinstance(given, str) else given
    if not ids:
        raise InvalidRequest("input must not be empty", field="input")
    if len(ids) <= limit:
        return ids
    if not request.may_cut:
        raise ContextOverflow(len(ids), limit, what="the input")
    is_ended = isinstance(given, str) and tokenizer.ends.adds_eos
    return (*ids[: limit - 1], ids[-1]) if is_ended else ids[:limit]


async def _all_of(tasks: list[asyncio.Task[tuple[bytes, ...]]]) -> list[tuple[bytes, ...]]:
    """Wait for all; where one fails, give the others up."""
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _submit(model: LoadedModel, texts: Sequence[Ids]) -> tuple[bytes, ...]:
    return await model.engine.embed(EmbedRequest(secrets.token_hex(8), tuple(texts)))


def _vector(content: bytes) -> array[float]:
    """Return a vector as it came from the engine. Raises RequestsFailed if there are no numbers in it."""
    vector = array("f", content)
    if not all(map(math.isfinite, vector)):
        raise RequestsFailed((), "the embedding contains NaN or infinite values")
    return vector
