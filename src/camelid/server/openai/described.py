"""How routes whose bodies we decode ourselves get into the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

SCHEMA_PATH = "#/components/schemas/{name}"


def add_post(routes: APIRouter, path: str, handler: Callable[[Request], Awaitable[Response]], body: str) -> None:
    """Add a route whose body is described by the schema of that name, and decoded by us, not by FastAPI."""
    schema = {"$ref": SCHEMA_PATH.format(name=body)}
    takes = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    refusals: dict[int | str, dict[str, Any]] = {"4XX": {"description": "refused; the body says why"}}
    routes.add_api_route(path, handler, methods=["POST"], openapi_extra=takes, responses=refusals)
