"""The list of models in Anthropic's form, on the paths that it shares with OpenAI's.

A client of Anthropic's names a version of the API in a header, and is recognised by it. Apart from the other routes
because of this choice between two dialects on one path.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from camelid.errors import InvalidRequest, NotFound

from ..door import Door
from ..query import read_count, refuse_query
from .replies import model_card, model_list

VERSION_HEADER = b"anthropic-version"
MAX_PAGE = 1000  # Anthropic's bound
_QUERY = {"limit": None, "before_id": None, "after_id": None, "lifecycle": ("active",), "lifecycle[]": ("active",)}


def is_anthropics(scope: Scope) -> bool:
    """Tell whether a request comes from a client of Anthropic's."""
    return any(name == VERSION_HEADER for name, _ in scope["headers"])


class _OnlyAnthropics(APIRoute):
    """A route that is not there for others: the next one at the same path is tried."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if is_anthropics(scope) else (Match.NONE, {})


class ModelRoutes:
    """The handlers, over one door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix="/v1/models", tags=["anthropic"], route_class=_OnlyAnthropics)
        routes.add_api_route("", self.models, methods=["GET"], include_in_schema=False)
        routes.add_api_route("/{name:path}", self.model, methods=["GET"], include_in_schema=False)
        return routes

    async def models(self, request: Request) -> Response:
        """List what is loaded, under all its names, a page at a time."""
        refuse_query(request, _QUERY)
        query, cards = request.query_params, self._cards()
        limit = read_count(query, "limit", 20, MAX_PAGE)
        if "before_id" in query and "after_id" in query:
            raise InvalidRequest("before_id and after_id cannot be given together", field="before_id")
        if "before_id" in query:
            end = _place(cards, query["before_id"], "before_id")
            return _json(model_list(cards[max(0, end - limit) : end], has_more=end > limit))
        start = _place(cards, query["after_id"], "after_id") + 1 if "after_id" in query else 0
        return _json(model_list(cards[start : start + limit], has_more=start + limit < len(cards)))

    async def model(self, request: Request, name: str) -> Response:
        """Describe one loaded model."""
        refuse_query(request, {})
        for card in self._cards():
            if card["id"] == name:
                return _json(json.dumps(card).encode())
        raise NotFound(f"there is no model {name!r} here")

    def _cards(self) -> list[dict[str, Any]]:
        return [
            model_card(name, status.loaded_at, status.context_length)
            for status in self._door.runtime.loaded()
            for name in self._door.names.of(status.name)
        ]


def _place(cards: list[dict[str, Any]], identity: str, field: str) -> int:
    """Return where in the list a model is. Raises InvalidRequest."""
    ids = [card["id"] for card in cards]
    if identity not in ids:
        raise InvalidRequest(f"{field} is {identity[:80]!r}, which no model here is called", field=field)
    return ids.index(identity)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
