"""Long work in a thread that tells how far it is, one JSON object a line: pulls, pushes, models being made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

from starlette.responses import Response, StreamingResponse

from camelid.errors import CamelidError, InvalidRequest, NotFound
from camelid.store.manifests import Layer
from camelid.store.transfer import Watcher

from ..news import said
from .replies import MEDIA_TYPE, encode


class Say(Protocol):
    """Who is told; any thread may."""

    def __call__(self, **values: Any) -> None:
        """Tell one line."""


Work = Callable[[Say], None]
Then = Callable[[], Coroutine[Any, Any, None]]


async def nothing() -> None:
    """Do nothing."""


async def told(work: Work, then: Then) -> AsyncIterator[bytes]:
    """Run `work` in a thread and yield what it says; the last line says success, or what went wrong."""
    async for values in _lines(work, then):
        yield encode({name: value for name, value in values.items() if name != "status_code"}) + b"\n"


async def answer(work: Work, *, is_streamed: bool, then: Then = nothing) -> Response:
    """Answer with all that `work` says, or with its last line and the status that belongs to it; `then` comes behind
    work that has succeeded.
    """
    if is_streamed:
        return StreamingResponse(told(work, then), media_type=MEDIA_TYPE)
    last: dict[str, Any] = {}
    async for line in _lines(work, then):
        last = line
    status = last.pop("status_code", 200)
    return Response(encode(last), status, media_type="application/json")


async def _lines(work: Work, then: Then) -> AsyncIterator[dict[str, Any]]:
    def telling(put: Callable[[dict[str, Any]], None]) -> None:
        work(lambda **values: put(values))

    try:
        async for values in said(telling):
            yield values
        await then()
        yield {"status": "success"}
    except CamelidError as error:
        yield {"error": error.message, "status_code": _status(error)}
    except OSError as error:
        yield {"error": str(error), "status_code": 500}


def _status(error: CamelidError) -> int:
    if isinstance(error, InvalidRequest):
        return 400
    return 404 if isinstance(error, NotFound) else 500


def watcher(say: Say, verb: str) -> Watcher:
    """Return a watcher that tells of each layer as Ollama does: `pulling 0123456789ab`."""
    current: dict[str, Any] = {}

    def begin(layer: Layer) -> None:
        current.update(digest=str(layer.digest), total=layer.size, completed=0)

    def done(size: int) -> None:
        current["completed"] += size
        say(status=f"{verb} {current['digest'][7:19]}", **current)

    return Watcher(begin, done, say=lambda text: None)
