"""What clients of a served Truss folder reach: keys and bounds as everywhere, and every call passed on to the class.

Nothing of the user's runs here. The paths are those of Truss's server, of Baseten's gateway and of SageMaker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from camelid.errors import CamelidError, Unavailable
from camelid.server.auth import Keys
from camelid.server.decode import read_body
from camelid.server.errors import internal_problem, problem_of, respond
from camelid.server.guard import Guard, Named
from camelid.server.lifecycle import Lifecycle
from camelid.server.limits import Limits
from camelid.server.predict.replies import ENVELOPE
from camelid.server.predict.routes import DEPLOYED_PATHS, PATHS
from camelid.server.stream import while_connected
from camelid.settings import ServerSettings

from .application import METHODS, NOT_READY, crashed
from .host import Child, Host

_MODEL = "/v1/models/model"
_OWN_HEADERS = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "host"})
FOLDER_LIMITS = Limits(body_bytes=64 * 2**20)  # arrays and images come in bodies


class Front:
    """The routes, over one host."""

    def __init__(self, host: Host, lifecycle: Lifecycle, limits: Limits) -> None:
        self._host, self._lifecycle, self._limits = host, lifecycle, limits

    def application(self, settings: ServerSettings) -> Starlette:
        """Return the application."""
        predict = [*PATHS, *DEPLOYED_PATHS, "/v1/models/{name:path}:predict", "/v1/models/{name:path}:predict_binary"]
        routes = [
            Route("/", self.live),
            Route("/livez", self.live),
            *(Route(path, self.ready) for path in ("/readyz", "/startupz", "/ping")),
            *(Route(path, self._to(f"{_MODEL}:predict"), methods=["POST"]) for path in predict),
            *(Route(path, self._to(path), methods=["POST"]) for path in METHODS),
            Route("/hot-reload", self.reload, methods=["POST"]),
            Route("/v1/models/{name:path}/loaded", self._to(f"{_MODEL}/loaded")),
            Route("/v1/models/{name:path}/schema", self._to(f"{_MODEL}/schema")),
            Route("/v1/models/{name:path}", self.ready),
        ]
        guard = Middleware(
            Guard, Keys(settings.api_key), Keys(settings.admin_key), settings.host, lambda scope: ENVELOPE
        )
        handlers = {CamelidError: _ours, HTTPException: _https, Exception: _bug}
        return Starlette(routes=routes, middleware=[Middleware(Named), guard], exception_handlers=handlers)

    async def live(self, request: Request) -> Response:
        """Tell that the server lives."""
        return JSONResponse(True)

    async def ready(self, request: Request) -> Response:
        """Tell whether calls are welcome: there is a process, and the class says that it is healthy."""
        if self._lifecycle.is_leaving:
            raise Unavailable(NOT_READY)
        return await self._pass_on(request, _MODEL)

    async def reload(self, request: Request) -> Response:
        """Load the class again, now."""
        try:
            await self._host.reload()
        except CamelidError as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error.message}"}, 422)
        return JSONResponse({"msg": "Hot reload complete"})

    def _to(self, path: str) -> Callable[[Request], Awaitable[Response]]:
        async def passed(request: Request) -> Response:
            return await self._pass_on(request, path)

        return passed

    async def _pass_on(self, request: Request, path: str) -> Response:
        body = await read_body(request, self._limits)
        child = self._host.child
        if child is None or not self._lifecycle.is_started:
            raise Unavailable(NOT_READY)
        headers = [(name, value) for name, value in request.headers.items() if name not in _OWN_HEADERS]
        asked = child.client.build_request(request.method, path, headers=headers, content=body)
        return Passed(child, asked, self._lifecycle)


class Passed(Response):
    """The answer of the class's process, passed on as it comes."""

    def __init__(self, child: Child, asked: httpx2.Request, lifecycle: Lifecycle) -> None:
        super().__init__()
        self._child, self._asked, self._lifecycle = child, asked, lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the answer (the entry that ASGI wants)."""
        async with AsyncExitStack() as stack:
            ended = stack.enter_context(self._lifecycle.request())
            stack.enter_context(self._child.call())
            await while_connected(self._answer(scope, receive, send), receive, ended)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._child.client.send(self._asked, stream=True)
        except httpx2.TransportError:
            await crashed()(scope, receive, send)
            return
        try:
            await self._write(answer, send)
        except (
            httpx2.TransportError
        ) as error:  # headers are out: the connection is cut, which no client takes for an end
            raise Unavailable("the process of the model ended in the middle of an answer") from error
        finally:
            await answer.aclose()

    async def _write(self, answer: httpx2.Response, send: Send) -> None:
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() != b"transfer-encoding"]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        async for piece in _pieces(answer):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pieces(answer: httpx2.Response) -> AsyncIterator[bytes]:
    async for piece in answer.aiter_raw():
        if piece:
            yield piece


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, CamelidError)
    return respond(problem_of(error), ENVELOPE)


async def _https(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    return respond(internal_problem(), ENVELOPE)
