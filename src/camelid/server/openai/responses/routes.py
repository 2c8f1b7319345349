"""The routes of the Responses API: create, ask again, forget, list the input, count tokens."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from camelid.errors import InvalidRequest
from camelid.types import ChatRequest, Message

from ...decode import decode, read_body
from ...described import query_field
from ...door import Door
from ...errors import Problem, respond
from ...query import read_count, refuse_query
from ...stream import EventStream, whole
from ..described import OPENAI
from ..replies import error_body
from . import shapes
from .bodies import CountBody, Item, ResponseBody
from .growing import GrowingResponse, Stamp
from .items import answer_message, listed, read_items, to_messages
from .replies import Keep, ResponseReply, ResponseStream, counted, deleted, item_list
from .requests import ResponseForm, form, to_prompt, to_request
from .store import Kept, ResponseStore

_CREATE = msgspec.json.Decoder(ResponseBody)
_COUNT = msgspec.json.Decoder(CountBody)
BODIES = (ResponseBody, CountBody, *Item.__args__)
SHAPES = shapes.SHAPES
MAX_PAGE = 100  # OpenAI's bound of a list
_LIST = (
    query_field("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
    query_field("after", {"type": "string"}),
    query_field("order", {"enum": ["asc", "desc"]}),
)


class ResponsesRoutes:
    """The handlers, over one door and a store of their own."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._store = ResponseStore(door.limits.stored_responses, door.limits.stored_bytes)

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix="/v1/responses", tags=["openai"])
        one, add = "/{response_id}", OPENAI.add
        add(routes, "POST", "", self.create, body=ResponseBody, reply=shapes.ResponseOut, has_stream=True)
        add(routes, "POST", "/input_tokens", self.count, body=CountBody, reply=shapes.CountedOut)
        add(routes, "GET", one, self.get, reply=shapes.ResponseOut)
        add(routes, "DELETE", one, self.delete, reply=shapes.DeletedOut)
        add(routes, "GET", f"{one}/input_items", self.input_items, reply=shapes.ItemListOut, query=_LIST)
        add(routes, "POST", f"{one}/cancel", self.cancel, reply=shapes.ResponseOut)
        return routes

    async def create(self, request: Request) -> Response:
        """Answer a conversation, and keep it for who comes back."""
        door = self._door
        body = decode(await read_body(request, door.limits), _CREATE)
        items = read_items(body.input)
        conversation = to_messages(items, self._earlier(body, _owner(request)))
        model = await door.ready(body.model)
        recommended = door.runtime.sampling(model)
        ask = to_request(body, conversation, model, secrets.randbits(64), door.limits, recommended)
        written = form(body, body.model or model, ask)
        growing = GrowingResponse(Stamp(secrets.token_hex(16), int(time.time())), written)
        keep = self._keeper(growing, written, items, conversation, _owner(request))
        return await self._answer(request, ask, growing, keep)

    async def count(self, request: Request) -> Response:
        """Count the tokens of a prompt without answering it."""
        door = self._door
        body = decode(await read_body(request, door.limits), _COUNT)
        conversation = to_messages(read_items(body.input), self._earlier(body, _owner(request)))
        ask = to_prompt(body, conversation, await door.ready(body.model), door.limits)
        return _json(counted(await door.runtime.count_tokens(ask)))

    async def get(self, request: Request, response_id: str) -> Response:
        """Return a response that was kept."""
        refuse_query(request, {"stream": ("false",), "include_obfuscation": ("false",)})
        kept = self._store.get(response_id, _owner(request))
        return _missing(response_id) if kept is None else _json(kept.body)

    async def delete(self, request: Request, response_id: str) -> Response:
        """Forget a response."""
        refuse_query(request, {})
        is_gone = self._store.remove(response_id, _owner(request))
        return _json(deleted(response_id)) if is_gone else _missing(response_id)

    async def input_items(self, request: Request, response_id: str) -> Response:
        """List the items that a response was asked with, the newest first unless `order` says otherwise."""
        refuse_query(request, {"limit": None, "after": None, "order": ("asc", "desc")})
        kept = self._store.get(response_id, _owner(request))
        if kept is None:
            return _missing(response_id)
        query = request.query_params
        items = list(kept.items) if query.get("order") == "asc" else list(reversed(kept.items))
        start = _start_after(items, query.get("after"))
        limit = read_count(query, "limit", 20, MAX_PAGE)
        return _json(item_list(items[start : start + limit], has_more=start + limit < len(items)))

    async def cancel(self, request: Request, response_id: str) -> Response:
        """Refuse: only responses in the background could be cancelled, and there are none."""
        if self._store.get(response_id, _owner(request)) is None:
            return _missing(response_id)
        raise InvalidRequest("only a response in the background can be cancelled", field="response_id")

    async def _answer(self, request: Request, ask: ChatRequest, growing: GrowingResponse, keep: Keep) -> Response:
        door = self._door
        events = door.chat(request, ask)
        if growing.form.stream:
            return EventStream(events, ResponseStream(growing, keep), door.lifecycle, door.limits)
        return await whole(request, events, ResponseReply(growing, keep), door.lifecycle)

    def _earlier(self, body: ResponseBody | CountBody, owner: str) -> tuple[Message, ...]:
        """Return the conversation that `body` goes on with. Raises InvalidRequest."""
        if body.previous_response_id is None:
            return ()
        kept = self._store.get(body.previous_response_id, owner)
        if kept is None:
            raise InvalidRequest(
                f"there is no response {body.previous_response_id[:80]!r} here",
                field="previous_response_id",
                hint="it was not stored, was deleted, or made room for newer ones: send the conversation in input",
            )
        return kept.conversation

    def _keeper(
        self,
        growing: GrowingResponse,
        written: ResponseForm,
        items: tuple[Item, ...],
        conversation: tuple[Message, ...],
        owner: str,
    ) -> Keep:
        def keep(body: bytes) -> None:
            if written.is_stored:
                stamp, answer = growing.stamp, answer_message(growing.output)
                self._store.put(Kept(stamp.id, owner, body, listed(items, stamp.token), (*conversation, answer)))

        return keep


def _owner(request: Request) -> str:
    return str(request.state.owner)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _missing(identity: str) -> Response:
    problem = Problem(404, "response_not_found", f"there is no response {identity[:80]!r} here", field="response_id")
    return respond(problem, error_body)


def _start_after(items: list[dict[str, Any]], after: str | None) -> int:
    if after is None:
        return 0
    ids = [item["id"] for item in items]
    if after not in ids:
        raise InvalidRequest(f"after is {after[:80]!r}, which no item has", field="after")
    return ids.index(after) + 1
