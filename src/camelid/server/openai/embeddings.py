"""POST /v1/embeddings: its body, what it asks for, and its reply.

Apart from the other files of this dialect because nothing of it is shared with answers that are generated. Source: the
request types of the openai package, 3.52.
"""

from __future__ import annotations

import base64
import sys
from array import array
from typing import Any, Literal

import msgspec

from camelid.errors import InvalidRequest
from camelid.types import EmbeddingRequest, Embeddings


class EmbeddingBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/embeddings. `input` is a text or token ids, or a list of one of them."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None  # a label


def to_embedding_request(body: EmbeddingBody, model: str) -> EmbeddingRequest:
    """Return what `body` asks of `model`. Raises InvalidRequest naming the field."""
    return EmbeddingRequest(model, _inputs(body.input), body.dimensions)


def to_reply(found: Embeddings, body: EmbeddingBody, model: str) -> dict[str, Any]:
    """Return the reply, which shows `model` as the model's name."""
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
        for index, vector in enumerate(found.vectors)
    ]
    usage = {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _inputs(given: str | list[str | int | list[int]]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(given, str):
        given = [given]
    elif given and all(isinstance(one, int) for one in given):
        given = [[one for one in given if isinstance(one, int)]]
    inputs: list[str | tuple[int, ...]] = []
    for index, one in enumerate(given):
        if isinstance(one, int):
            raise InvalidRequest("input must be texts or lists of token ids, not a mixture", field=f"input[{index}]")
        if not one:
            raise InvalidRequest(f"input[{index}] must not be empty", field=f"input[{index}]")
        inputs.append(one if isinstance(one, str) else tuple(one))
    if not inputs:
        raise InvalidRequest("input must not be empty", field="input")
    return tuple(inputs)


def _written(vector: array[float], encoding: str | None) -> list[float] | str:
    """Return a vector as a list, or as base64 of its little-endian 32-bit floats."""
    if encoding != "base64":
        return list(vector)
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode("ascii")
