"""The routes of Anthropic's dialect: each reads a body, hands a request to the runtime, and writes the events back."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ..decode import decode, read_body
from ..door import Door
from ..stream import EventStream, whole
from .bodies import CountBody, MessagesBody
from .replies import Reply, Stream
from .requests import to_chat_request, to_prompt
from .shapes import ANTHROPIC, SHAPES, CountReply, MessageReply

_MESSAGES = msgspec.json.Decoder(MessagesBody)
_COUNT = msgspec.json.Decoder(CountBody)


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of all bodies and replies of this dialect, for the OpenAPI document."""
    return ANTHROPIC.components((MessagesBody, CountBody, *SHAPES))


class AnthropicRoutes:
    """The handlers, over one door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix="/v1", tags=["anthropic"])
        add = ANTHROPIC.add
        add(routes, "POST", "/messages", self.messages, body=MessagesBody, reply=MessageReply, has_stream=True)
        add(routes, "POST", "/messages/count_tokens", self.count, body=CountBody, reply=CountReply)
        return routes

    async def messages(self, request: Request) -> Response:
        """Answer a conversation."""
        door = self._door
        body = decode(await read_body(request, door.limits), _MESSAGES)
        model = await door.ready(body.model)
        ask = to_chat_request(body, model, secrets.randbits(63), door.runtime.sampling(model), door.limits)
        events, identity = door.chat(request, ask), f"msg_{secrets.token_hex(12)}"
        if body.stream:
            return EventStream(events, Stream(identity, body.model), door.lifecycle, door.limits)
        return await whole(request, events, Reply(identity, body.model), door.lifecycle)

    async def count(self, request: Request) -> Response:
        """Count the tokens of a prompt without answering it."""
        door = self._door
        body = decode(await read_body(request, door.limits), _COUNT)
        ask = to_prompt(body, await door.ready(body.model), door.limits)
        return JSONResponse({"input_tokens": await door.runtime.count_tokens(ask)})
