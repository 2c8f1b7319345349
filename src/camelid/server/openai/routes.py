"""The routes of OpenAI's dialect: each reads a body, hands a request to the runtime, and writes the events back."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from camelid.errors import NotFound

from ..decode import decode, read_body
from ..door import Door
from ..merge import merge
from ..stream import EventStream, whole
from . import adapter_routes as adapters
from . import shapes
from . import token_routes as tokens
from .bodies import ChatBody, CompletionBody
from .completion_replies import CompletionReply, CompletionStream
from .completion_requests import completion_form, to_completion_requests
from .described import OPENAI
from .embeddings import EmbeddingBody, to_embedding_request, to_reply
from .replies import ChatReply, ChatStream, Stamp, model_card
from .requests import chat_form, to_chat_request
from .rerank import RerankBody, to_rank_reply, to_rank_request
from .responses import routes as responses

_CHAT = msgspec.json.Decoder(ChatBody)
_COMPLETION = msgspec.json.Decoder(CompletionBody)
_EMBEDDING = msgspec.json.Decoder(EmbeddingBody)
_RERANK = msgspec.json.Decoder(RerankBody)


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of all bodies and replies of this dialect, for the OpenAPI document."""
    bodies = (
        ChatBody,
        CompletionBody,
        EmbeddingBody,
        RerankBody,
        *tokens.BODIES,
        *adapters.BODIES,
        *responses.BODIES,
    )
    return OPENAI.components((*bodies, *shapes.SHAPES, *responses.SHAPES))


class OpenAIRoutes:
    """The handlers, over one door."""

    def __init__(self, door: Door, fingerprint: str) -> None:
        self._door = door
        self._fingerprint = fingerprint

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix="/v1", tags=["openai"])
        add = OPENAI.add
        add(routes, "POST", "/chat/completions", self.chat, body=ChatBody, reply=shapes.ChatReply, has_stream=True)
        add(routes, "POST", "/completions", self.complete, body=CompletionBody, reply=shapes.TextReply, has_stream=True)
        add(routes, "GET", "/models", self.models, reply=shapes.ModelList)
        add(routes, "GET", "/models/{name:path}", self.model, reply=shapes.ModelCard)
        add(routes, "POST", "/embeddings", self.embed, body=EmbeddingBody, reply=shapes.EmbeddingList)
        add(routes, "POST", "/rerank", self.rank, body=RerankBody, reply=shapes.RankList)
        return routes

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        door = self._door
        body = decode(await read_body(request, door.limits), _CHAT)
        model = await door.ready(body.model)
        ask = to_chat_request(body, model, secrets.randbits(64), door.limits, door.runtime.sampling(model))
        form = chat_form(body, body.model or ask.model)
        stamp = self._stamp("chatcmpl")
        events = door.chat(request, ask)
        if form.stream:
            return EventStream(events, ChatStream(stamp, form), door.lifecycle, door.limits)
        return await whole(request, events, ChatReply(stamp, form), door.lifecycle)

    async def complete(self, request: Request) -> Response:
        """Continue a text as it stands."""
        door = self._door
        body = decode(await read_body(request, door.limits), _COMPLETION)
        model = await door.ready(body.model)
        asks = to_completion_requests(body, model, secrets.randbits(64), door.limits, door.runtime.sampling(model))
        form = completion_form(body, body.model or model)
        stamp = self._stamp("cmpl")
        streams = [door.complete(request, ask) for ask in asks]
        events = streams[0] if len(streams) == 1 else merge(streams, form.best_of)
        if form.stream:
            return EventStream(events, CompletionStream(stamp, form, len(asks)), door.lifecycle, door.limits)
        return await whole(request, events, CompletionReply(stamp, form, len(asks)), door.lifecycle)

    async def embed(self, request: Request) -> Response:
        """Make vectors of texts."""
        door = self._door
        body = decode(await read_body(request, door.limits), _EMBEDDING)
        model = await door.ready(body.model)
        found = await door.embed(request, to_embedding_request(body, model))
        return Response(msgspec.json.encode(to_reply(found, body, body.model or model)), media_type="application/json")

    async def rank(self, request: Request) -> Response:
        """Put documents in order by how well they answer a query."""
        door = self._door
        body = decode(await read_body(request, door.limits), _RERANK)
        model = await door.ready(body.model)
        found = await door.rank(request, to_rank_request(body, model))
        return JSONResponse(to_rank_reply(found, body, body.model or model))

    async def models(self) -> Response:
        """List what is loaded, under all its names."""
        return JSONResponse({"object": "list", "data": self._cards()})

    async def model(self, name: str) -> Response:
        """Describe one loaded model. Its name may contain slashes."""
        for card in self._cards():
            if card["id"] == name:
                return JSONResponse(card)
        raise NotFound(f"there is no model {name!r} here", hint="GET /v1/models lists what is loaded")

    def _cards(self) -> list[dict[str, Any]]:
        names = self._door.names
        return [
            model_card(name, int(status.loaded_at), status.base)
            for status in self._door.runtime.loaded()
            for name in names.of(status.name)
        ]

    def _stamp(self, prefix: str) -> Stamp:
        return Stamp(f"{prefix}-{secrets.token_hex(12)}", int(time.time()), self._fingerprint)
