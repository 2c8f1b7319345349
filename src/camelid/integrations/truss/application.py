"""The HTTP interface of Truss's server around one user's class, in the process of that class.

It knows no keys, hosts or restarts: it is spoken to over a socket that only the server in front can reach
(`front.py`). Source: Truss's server of version 0.18.35, compared call by call in tests/counterparts/truss.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio.to_thread
from fastapi import HTTPException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from camelid.errors import InvalidRequest

from .folder import TrussFolder
from .methods import Method, methods_of
from .values import read, write

BINARY = "application/octet-stream"
MODEL_ERROR = "Internal Server Error (in model/chainlet)."
NOT_READY = "Model with name model is not ready."
METHODS = {
    "/v1/chat/completions": "chat_completions",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
}
_SERVER, _MODEL, _CALLER = "500", "600", "700"  # whose fault it is, for Baseten's gateway
_logger = logging.getLogger("camelid.truss")


class ModelError(Exception):
    """The user's code raised; what it raised is in the log."""


def failure(status: int, told: object, code: str) -> Response:
    """Return an error as Truss writes it."""
    return JSONResponse({"error": told}, status, {"x-baseten-error-source": "04", "x-baseten-error-code": code})


def crashed() -> Response:
    """Return the answer for a call whose process ended."""
    return failure(500, MODEL_ERROR, _MODEL)


class ModelApplication:
    """The routes of one loaded model."""

    def __init__(self, folder: TrussFolder, model: object) -> None:
        """Raises InvalidRequest for a class that breaks Truss's contract."""
        self._folder = folder
        self._methods = methods_of(model)
        self._turns = asyncio.Semaphore(folder.predict_concurrency)

    def application(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/v1/models/model", self.ready),
            Route("/v1/models/model/loaded", self.loaded),
            Route("/v1/models/model/schema", self.schema),
            Route("/v1/models/model:predict", self.predict, methods=["POST"]),
            *(Route(path, self._other(name), methods=["POST"]) for path, name in METHODS.items()),
        ]
        return Starlette(routes=routes)

    async def ready(self, request: Request) -> Response:
        """Tell whether the model says that it is healthy; one that says nothing is."""
        method = self._methods.get("is_healthy")
        try:
            is_healthy = method is None or bool(await method.call(None, request))
        except Exception:
            _logger.exception("is_healthy() failed")
            is_healthy = False
        return JSONResponse({}) if is_healthy else failure(503, NOT_READY, _MODEL)

    async def loaded(self, request: Request) -> Response:
        """Tell that the model is loaded: before that, nobody can ask."""
        return JSONResponse({})

    async def schema(self, request: Request) -> Response:
        """Describe the inputs, where they are annotated."""
        kind = self._input_type
        if kind is None:
            return failure(404, "No schema found", _MODEL)
        return JSONResponse({"input_schema": kind.model_json_schema(), "output_schema": None})

    async def predict(self, request: Request) -> Response:
        """Answer one call of predict."""
        return await self._answer(request, self._predicted)

    def _other(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            method = self._methods.get(name)
            if method is None:
                return failure(404, f"`{name}` must only be called if model has it.", _CALLER)

            async def once(inputs: Any, request: Request) -> Any:
                result = await _called(method, inputs, request)
                return await self._finished(result, request, lambda: None) if _is_generator(result) else result

            return await self._answer(request, once)

        return answer

    @property
    def _input_type(self) -> Any:
        return (self._methods.get("preprocess") or self._methods["predict"]).input_type

    async def _answer(self, request: Request, work: Callable[[Any, Request], Awaitable[Any]]) -> Response:
        """Read the body, do the work, write the result; every error becomes an answer in Truss's form."""
        is_binary = request.headers.get("content-type", "").partition(";")[0].strip().lower() == BINARY
        request.state.watch_disconnect = _watching(request)
        try:
            first = self._methods.get("preprocess") or self._methods["predict"]
            reads = first.takes_inputs or not first.takes_request
            inputs = read(await request.body(), self._input_type, is_binary=is_binary) if reads else None
            result = await work(inputs, request)
            if isinstance(result, Response):
                if result.status_code >= 300:
                    result.headers.update({"x-baseten-error-source": "04", "x-baseten-error-code": _CALLER})
                return result
            return Response(write(result, is_binary=is_binary), media_type=BINARY if is_binary else "application/json")
        except InvalidRequest as error:
            return failure(400, error.message, _CALLER)
        except HTTPException as error:
            return failure(error.status_code, error.detail, _MODEL)
        except ModelError:
            return failure(500, MODEL_ERROR, _MODEL)
        except (TypeError, ValueError) as error:  # of a result that cannot be written
            _logger.exception("the result cannot be written")
            return failure(500, f"Unhandled exception: {type(error).__name__}: {error}", _SERVER)

    async def _predicted(self, inputs: Any, request: Request) -> Any:
        """Return the result of preprocess, predict and postprocess; `predict_concurrency` bounds the second."""
        if "preprocess" in self._methods:
            inputs = await _called(self._methods["preprocess"], inputs, request)
        await self._turns.acquire()
        release: Callable[[], None] | None = self._turns.release
        try:
            result = await _called(self._methods["predict"], inputs, request)
            if (_is_generator(result) or isinstance(result, Response)) and "postprocess" in self._methods:
                _logger.error("predict returned a stream or a response, which postprocess cannot take")
                raise ModelError
            if _is_generator(result):
                release, finish = None, self._turns.release  # the turn lasts as long as pieces are made
                return await self._finished(result, request, finish)
            if isinstance(result, StreamingResponse):
                release = None
                weakref.finalize(result, self._turns.release)
            if isinstance(result, Response):
                return result
        finally:
            if release is not None:
                release()
        if "postprocess" in self._methods:
            result = await _called(self._methods["postprocess"], result, request)
        return result

    async def _finished(self, pieces: Any, request: Request, finish: Callable[[], None]) -> Any:
        """Return a stream, or all of it as text for a client that takes nothing else.

        `finish` is called when the last piece is made, however slow the reader is.
        """
        queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        making = asyncio.ensure_future(_make(_async(pieces), queue))
        making.add_done_callback(lambda done: finish())
        first = await _next(queue, self._folder.streaming_read_timeout_s)  # what fails at once is a status
        stream = self._rest(first, queue, making)
        if _wants_one_piece(request):
            return b"".join([piece async for piece in stream]).decode()
        return StreamingResponse(stream, media_type=BINARY)

    async def _rest(
        self, piece: bytes | None, queue: asyncio.Queue[bytes | BaseException | None], making: asyncio.Future[None]
    ) -> AsyncIterator[bytes]:
        try:
            while piece is not None:
                yield piece
                piece = await _next(queue, self._folder.streaming_read_timeout_s)
        finally:
            making.cancel()


async def _called(method: Method, inputs: Any, request: Request) -> Any:
    """Return what a method returns. What it raises is logged, and told to nobody but an HTTPException."""
    try:
        return await method.call(inputs, request)
    except HTTPException:
        _logger.warning("the model raised an HTTPException", exc_info=True)
        raise
    except Exception as error:
        _logger.exception("the model failed")
        raise ModelError from error


async def _make(pieces: AsyncIterator[Any], queue: asyncio.Queue[bytes | BaseException | None]) -> None:
    try:
        async for piece in pieces:
            queue.put_nowait(piece if isinstance(piece, bytes) else str(piece).encode())
        queue.put_nowait(None)
    except Exception as error:
        _logger.exception("the model failed in a stream")
        queue.put_nowait(error)


async def _next(queue: asyncio.Queue[bytes | BaseException | None], seconds: float) -> bytes | None:
    """Return the next piece; None behind the last. Raises ModelError when there is none, and for too long a silence."""
    try:
        async with asyncio.timeout(seconds):
            piece = await queue.get()
    except TimeoutError as error:
        _logger.error("the model was silent for %g s in a stream", seconds)
        raise ModelError from error
    if isinstance(piece, BaseException):
        raise ModelError from piece
    return piece


def _is_generator(value: object) -> bool:
    return inspect.isgenerator(value) or inspect.isasyncgen(value)


def _async(pieces: Any) -> AsyncIterator[Any]:
    return pieces if inspect.isasyncgen(pieces) else _in_threads(pieces)


async def _in_threads(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    end = object()
    while (piece := await anyio.to_thread.run_sync(next, pieces, end)) is not end:
        yield piece


def _wants_one_piece(request: Request) -> bool:
    is_openais = "openai" in request.headers.get("user-agent", "").lower()
    return request.headers.get("accept") == "application/json" and not is_openais


def _watching(request: Request) -> Callable[[], contextlib.AbstractContextManager[threading.Event]]:
    """Return what Truss's models find in `request.state.watch_disconnect`: an event that says that the client left."""
    loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def watch_disconnect() -> Iterator[threading.Event]:
        left = threading.Event()

        async def watch() -> None:
            while not await request.is_disconnected():
                await asyncio.sleep(1)
            left.set()

        watching = asyncio.run_coroutine_threadsafe(watch(), loop)
        try:
            yield left
        finally:
            watching.cancel()

    return watch_disconnect
