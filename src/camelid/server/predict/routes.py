"""The routes of `predict`: on Baseten's gateway, on the server inside its containers, and on SageMaker."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from camelid.errors import InvalidRequest, NotFound, Unavailable
from camelid.types import ChatRequest, CompletionRequest, Event

from ..decode import read_body
from ..door import Door
from ..stream import EventStream, whole
from .bodies import AS_BUILT, AsBuiltBody, PredictBody
from .packing import is_binary, typed, unpack
from .replies import BINARY, GatheredStream, Reply, Stream, to_json, to_msgpack
from .requests import Form, explained, ignored_fields, to_as_built, to_request
from .shapes import PREDICT, SHAPES, Empty, PredictReply

PATHS = (
    "/predict",
    "/v1/predict",
    "/invocations",
    "/production/predict",
    "/development/predict",
)
DEPLOYED_PATHS = (  # the gateway's ways to say which deployment of a model; there is one here
    "/environments/{which}/predict",
    "/deployment/{which}/predict",
    "/model_versions/{which}/predict",
)
NAMED_PATHS = ("/v1/models/{name:path}:predict", "/v1/models/{name:path}:predict_binary")
_FIRST = ("predict", "v1", "production", "development", "environments", "deployment", "model_versions")
ANY_MODEL = "model"  # what Truss's clients call the one model of a server
IGNORED = "x-camelid-ignored"


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of all bodies and replies of this dialect, for the OpenAPI document."""
    return PREDICT.components((PredictBody, *SHAPES))


class PredictRoutes:
    """The handlers, over one door."""

    def __init__(self, door: Door, profile: str) -> None:
        """Answer in `profile` where a request says nothing of it."""
        self._door = door
        self._profile = profile

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["predict"])
        add = PREDICT.add
        for path in PATHS:
            add(routes, "POST", path, self.predict, body=PredictBody, reply=PredictReply, has_stream=True)
        for path in DEPLOYED_PATHS:
            add(routes, "POST", path, self.predict_deployed, body=PredictBody, reply=PredictReply, has_stream=True)
        for path in NAMED_PATHS:
            add(routes, "POST", path, self.predict_named, body=PredictBody, reply=PredictReply, has_stream=True)
        for path in ("/ping", f"/v1/models/{ANY_MODEL}"):
            add(routes, "GET", path, self.ready, reply=Empty)
        add(routes, "GET", "/v1/models/{name:path}/loaded", self.loaded, reply=Empty)
        add(routes, "GET", "/v1/models/{name:path}/schema", self.schema)
        return routes

    async def predict(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._answer(request, None)

    async def predict_deployed(self, request: Request, which: str) -> Response:
        """Answer a conversation, whichever deployment is asked for."""
        return await self._answer(request, None)

    async def predict_named(self, request: Request, name: str) -> Response:
        """Answer a conversation with the model that the path names; `model` is the server's own.

        As built, a server has one model, and calls it whatever it is called.
        """
        is_any = name == ANY_MODEL or (self._profile == AS_BUILT and not self._is_loaded(name))
        return await self._answer(request, None if is_any else name)

    async def ready(self) -> Response:
        """Tell whether requests are welcome now."""
        self._check_ready()
        return JSONResponse({})

    async def loaded(self, name: str) -> Response:
        """Tell whether the model is loaded."""
        self._check_ready()
        self._check_known(name)
        return JSONResponse({})

    async def schema(self, name: str) -> Response:
        """Describe the body."""
        self._check_known(name)
        return JSONResponse({"input_schema": schemas()["PredictPredictBody"], "supports_streaming": True})

    def check(self, fields: object) -> None:
        """Refuse an input of `async_predict` that cannot be answered. Raises InvalidRequest."""
        _asked(self._body(fields), "", self._door)

    async def answer_later(self, data: bytes) -> bytes:
        """Return the whole answer to a body that nobody waits for. Raises what asking raises."""
        door = self._door
        body = self._body(unpack(data, binary=False))
        ask, form = _asked(body, await door.ready(body.model), door)
        shown = ""
        if form.echo:
            tokens = await door.runtime.tokenize_chat(ask)
            shown = await door.runtime.detokenize(ask.model, tokens.ids, shows_control=False)
        reply = Reply(form, to_json, shown)
        async with aclosing(_explained(door.chat(None, ask), body)) as events:
            async for event in events:
                reply.feed(event)
        return reply.body()

    def _check_ready(self) -> None:
        if not self._door.lifecycle.is_started or not self._door.runtime.health().is_fresh:
            raise Unavailable(f"Model with name {ANY_MODEL} is not ready.")

    def _check_known(self, name: str) -> None:
        if name != ANY_MODEL and not self._is_loaded(name):
            raise NotFound(f"there is no model {name!r} here")

    def _is_loaded(self, name: str) -> bool:
        resolved = self._door.names.resolve(name)
        return any(status.name == resolved for status in self._door.runtime.loaded())

    async def _answer(self, request: Request, name: str | None) -> Response:
        door = self._door
        binary = is_binary(request.headers.get("content-type", ""))
        fields = unpack(await read_body(request, door.limits), binary=binary)
        body = self._body(fields)
        model = await door.ready(body.model if name is None else name)
        ask, form = _asked(body, model, door)
        response = await self._respond(request, body, ask, form, binary=binary)
        if form.echo and (ignored := ignored_fields(fields)):
            response.headers[IGNORED] = ", ".join(ignored)[:1024].encode("ascii", "replace").decode()
        return response

    def _body(self, fields: object) -> PredictBody | AsBuiltBody:
        """Return the typed body in the profile that it asks for, or the server's."""
        profile = fields.get("profile") if isinstance(fields, dict) else None
        if (profile if profile is not None else self._profile) == AS_BUILT:
            return typed(fields, AsBuiltBody)
        return typed(fields, PredictBody)

    async def _respond(
        self, request: Request, body: PredictBody | AsBuiltBody, ask: ChatRequest, form: Form, *, binary: bool
    ) -> Response:
        door, write = self._door, to_msgpack if binary else to_json
        media_type = BINARY if binary else "application/json"
        shown = ""
        if form.echo:
            tokens = await door.runtime.tokenize_chat(ask)
            shown = "" if form.stream else await door.runtime.detokenize(ask.model, tokens.ids, shows_control=False)
            echoed = CompletionRequest(ask.model, tokens.ids, ask.generation, echo=form.stream)
            events = _explained(door.complete(request, echoed), body)
        else:
            events = _explained(door.chat(request, ask), body)
        if not form.stream:
            return await whole(request, events, Reply(form, write, shown), door.lifecycle, media_type)
        if _wants_one_piece(request):
            return await whole(request, events, GatheredStream(form, write), door.lifecycle, media_type)
        return EventStream(events, Stream(form), door.lifecycle, door.limits)


def is_predicts(path: str) -> bool:
    """Tell whether a path is one of this dialect's."""
    if path in ("/ping", f"/v1/models/{ANY_MODEL}"):
        return True
    if path.startswith("/v1/models/"):
        return path.endswith((":predict", ":predict_binary", "/loaded", "/schema"))
    first = path.split("/")[1]
    if first in ("invocations", "hot-reload", "async_request", "async_predict"):
        return True
    return path.endswith(("/predict", "/async_predict")) and first in _FIRST


def _asked(body: PredictBody | AsBuiltBody, model: str, door: Door) -> tuple[ChatRequest, Form]:
    seed = secrets.randbits(63)
    if isinstance(body, AsBuiltBody):
        return to_as_built(body, model, seed, door.limits)
    return to_request(body, model, seed, door.limits)


async def _explained(
    events: AsyncGenerator[Event, None], body: PredictBody | AsBuiltBody
) -> AsyncGenerator[Event, None]:
    """Yield events; what is wrong with a length is said by the name that it has here."""
    try:
        async for event in events:
            yield event
    except InvalidRequest as error:
        raise explained(error, body) from error
    finally:
        await events.aclose()


def _wants_one_piece(request: Request) -> bool:
    """Tell whether a client takes no stream. OpenAI's clients say that they want JSON and mean a stream, too."""
    is_openais = "openai" in request.headers.get("user-agent", "").lower()
    return request.headers.get("accept") == "application/json" and not is_openais
