"""POST /v1/rerank: its body, what it asks for, and its reply.

OpenAI has no such route; this is the form that Jina's API, vLLM and llama.cpp's server share, and it stands beside
OpenAI's because its clients share a base URL and an envelope of errors with them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from camelid.errors import InvalidRequest
from camelid.types import Ranking, RankRequest


class Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A document as an object."""

    text: str


class RerankBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/rerank."""

    query: str
    documents: list[str | Document]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None


def to_rank_request(body: RerankBody, model: str) -> RankRequest:
    """Return what `body` asks of `model`. Raises InvalidRequest naming the field."""
    if body.top_n is not None and body.top_n < 1:
        raise InvalidRequest(f"top_n must be at least 1, got {body.top_n}", field="top_n")
    if not body.query:
        raise InvalidRequest("query must not be empty", field="query")
    return RankRequest(model, body.query, tuple(map(_text, body.documents)))


def to_rank_reply(found: Ranking, body: RerankBody, model: str) -> dict[str, Any]:
    """Return the reply: the best first, equal ones in the order in which they were given."""
    order = sorted(range(len(found.scores)), key=lambda index: -found.scores[index])
    results: list[dict[str, Any]] = []
    for index in order[: body.top_n]:
        result: dict[str, Any] = {"index": index, "relevance_score": found.scores[index]}
        if body.return_documents:
            result["document"] = {"text": _text(body.documents[index])}
        results.append(result)
    usage = {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens}
    return {"object": "list", "model": model, "results": results, "usage": usage}


def _text(document: str | Document) -> str:
    return document if isinstance(document, str) else document.text
