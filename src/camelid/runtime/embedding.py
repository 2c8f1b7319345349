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
from camelid.models.spec import Pooling
from camelid.text.tokenizer import Tokenizer
from camelid.types import EmbeddingRequest, Embeddings, Ranking, RankRequest

from .model import LoadedModel

GROUP_TEXTS = 64  # of one message to the engine: a few MB of vectors at most

Ids = tuple[int, ...]


async def embed(model: LoadedModel, request: EmbeddingRequest) -> Embeddings:
    """Return one vector for each input, of length 1.

    Raises ContextOverflow for an input that is too long and may not be cut, InvalidRequest, and what the engine raises.
    """
    spec = model.description.spec
    if spec.pooling is Pooling.RANK:
        raise InvalidRequest(f'"{model.name}" does not support embeddings', field="model", hint="it ranks: /v1/rerank")
    _check_plain(model)
    dim = spec.dim
    if request.dimensions is not None and not 1 <= request.dimensions <= dim:
        raise InvalidRequest(f"dimensions must be 1–{dim} for this model, got {request.dimensions}", field="dimensions")
    texts = await asyncio.to_thread(_encode, model, request)
    found = await _all_of(model, [EmbedRequest(_new_id(), tuple(group)) for group in _groups(texts)])
    vectors = map(_vector, found)
    return Embeddings(tuple(shortened(vector, request.dimensions) for vector in vectors), sum(map(len, texts)))


def shortened(vector: array[float], dimensions: int | None) -> array[float]:
    """Return the first dimensions of a vector, brought to length 1 again."""
    if dimensions is None or dimensions >= len(vector):
        return vector
    part = vector[:dimensions]
    length = math.sqrt(sum(value * value for value in part))
    return array("f", (value / length for value in part)) if length > 0 else part


def _check_plain(model: LoadedModel) -> None:
    if model.adapter is not None:
        hint = f"ask {model.base}"
        raise InvalidRequest("embeddings are made without adapters", field="model", hint=hint)


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


async def rank(model: LoadedModel, request: RankRequest) -> Ranking:
    """Return how well each document answers the query; what is too long of a document is cut.

    Raises InvalidRequest for a model that does not rank, ContextOverflow for a query that leaves no room.
    """
    _check_plain(model)
    spec = model.description.spec
    if spec.pooling is not Pooling.RANK or spec.encoder is None or spec.encoder.num_labels != 1:
        hint = "use a cross-encoder with one label, such as a BERT reranker in GGUF"
        raise InvalidRequest(f'"{model.name}" does not support rerank', field="model", hint=hint)
    begin, texts = await asyncio.to_thread(_pairs, model, request)
    requests = [EmbedRequest(_new_id(), tuple(group), (begin,) * len(group)) for group in _groups(texts)]
    scores = [_vector(content)[0] for content in await _all_of(model, requests)]
    return Ranking(tuple(_probability(score) for score in scores), sum(map(len, texts)))


def _pairs(model: LoadedModel, request: RankRequest) -> tuple[int, list[Ids]]:
    """Return where the second text of each pair begins, and the ids of query and document, each with its end."""
    tokenizer = model.text.tokenizer
    first = [*tokenizer.encode_whole(request.query), *tokenizer.ends.between]
    ends = [tokenizer.ends.eos_id] if tokenizer.ends.eos_id is not None else []
    room = model.context_length - len(first) - len(ends)
    if room < 1:
        raise ContextOverflow(len(first), model.context_length, what="the query, with room for a document,")
    return len(first), [(*first, *tokenizer.encode(text)[:room], *ends) for text in request.documents]


def _probability(score: float) -> float:
    """Return the logistic function of a score, which is what cross-encoders with one label are trained for."""
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    return math.exp(score) / (1 + math.exp(score))


def _groups(texts: list[Ids]) -> list[list[Ids]]:
    return [texts[start : start + GROUP_TEXTS] for start in range(0, len(texts), GROUP_TEXTS)]


def _new_id() -> str:
    return secrets.token_hex(8)


async def _all_of(model: LoadedModel, requests: Sequence[EmbedRequest]) -> list[bytes]:
    """Return the vectors of all requests in their order; where one fails, the others are given up."""
    tasks = [asyncio.create_task(model.engine.embed(request)) for request in requests]
    try:
        return [vector for vectors in await asyncio.gather(*tasks) for vector in vectors]
    finally:
        for task in tasks:
            task.cancel()


def _vector(content: bytes) -> array[float]:
    """Return a vector as it came from the engine. Raises RequestsFailed if there are no numbers in it."""
    vector = array("f", content)
    if not all(map(math.isfinite, vector)):
        raise RequestsFailed((), "the embedding contains NaN or infinite values")
    return vector
