"""What the three probes mean, what `/` says, and `/metrics`.

/livez: the event loop turns; nothing else can make it fail, because a restart would not cure anything else.
/startupz: the model is loaded and has made a token. /readyz: requests are welcome here now.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from . import metrics
from .door import Door


def not_ready(door: Door) -> str | None:
    """Return why requests should go elsewhere; None if they are welcome."""
    if not door.lifecycle.is_started:
        return "the model is still being loaded"
    if door.lifecycle.is_leaving:
        return "the server is shutting down"
    health = door.runtime.health()
    if not health.is_fresh:
        return "the engine gives no sign of life"
    if health.is_overloaded:
        return "too many requests are waiting"
    return None


def router(door: Door) -> APIRouter:
    """Return the routes that say how the server is."""
    routes = APIRouter()

    async def livez() -> Response:
        """Tell that the process lives."""
        return _verdict(None)

    async def startupz() -> Response:
        """Tell whether the model has been loaded and has made a token."""
        return _verdict(None if door.lifecycle.is_started else "the model is still being loaded")

    async def readyz() -> Response:
        """Tell whether requests are welcome now."""
        return _verdict(not_ready(door))

    async def prometheus() -> Response:
        """Give all metrics in Prometheus's text form."""
        return Response(door.metrics.page(), media_type=metrics.CONTENT_TYPE)

    async def root() -> Response:
        """Say what this is."""
        return PlainTextResponse(_welcome(door))

    for path, probe in (("/livez", livez), ("/startupz", startupz), ("/readyz", readyz)):
        routes.add_api_route(path, probe, methods=["GET"], tags=["health"], responses={503: {"description": "no"}})
        routes.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False)
    routes.add_api_route("/metrics", prometheus, methods=["GET"], tags=["health"], response_class=PlainTextResponse)
    routes.add_api_route("/", root, methods=["GET", "HEAD"], include_in_schema=False)
    return routes


def _verdict(trouble: str | None) -> Response:
    if trouble is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "no", "reason": trouble}, 503, {"retry-after": "1"})


def _welcome(door: Door) -> str:
    return (
        f"Camelid serves {door.names.default} here.\n\n"
        "POST /v1/chat/completions  a conversation, as OpenAI's API has it\n"
        "POST /v1/completions       plain text to be continued\n"
        "POST /v1/responses         OpenAI's newer API: items, functions, conversations by id\n"
        "POST /v1/messages          Anthropic's\n"
        "POST /api/chat             Ollama's\n"
        "POST /predict              Truss's and Baseten's\n"
        "GET  /v1/models            what is loaded\n"
        "GET  /openapi.json         all of it, described\n"
        "GET  /livez /startupz /readyz /metrics\n"
    )
