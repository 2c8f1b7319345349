"""The page of compatibility: every field of every route is sent, and the page says what happens."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.compatibility.openai import CHAT, chat
from tools.compatibility.page import DIALECTS, Row, Unclear, Verdict, page, rows_of
from tools.compatibility.probe import Prober
from tools.compatibility.shapes import Shape

from camelid.server.openai.bodies import Tool

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
OF_THE_SERVER_ITSELF = {"/livez", "/readyz", "/startupz", "/metrics"}


def rows(shape: Shape) -> list[Row]:
    async def gather() -> list[Row]:
        return [row async for row in rows_of(Prober(), CHAT, shape)]

    return asyncio.run(gather())


def test_the_page_says_what_the_server_does() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tools.compatibility"


def test_every_route_of_the_server_is_on_the_page() -> None:
    told = {(route.method, route.path) for dialect in DIALECTS for route in dialect.routes}
    described = Prober().app.openapi()["paths"]
    there = {
        (method.upper(), path)
        for path, methods in described.items()
        if path not in OF_THE_SERVER_ITSELF
        for method in methods
    }
    assert there == told


def test_a_field_that_is_ignored_in_silence_is_noticed() -> None:
    with pytest.raises(Unclear, match="user: accepted without any effect, and no table says why"):
        rows(Shape(None, "body", lambda fields: chat(**fields), {"user": ["me"]}))
    [row] = rows(Shape(None, "body", lambda fields: chat(**fields), {"user": ["me"]}, {"user": "a label"}))
    assert row.verdicts == [("me", Verdict.ACCEPTED)]


def test_what_is_honoured_and_what_is_refused_are_told_apart() -> None:
    [row] = rows(Shape(None, "body", lambda fields: chat(**fields), {"temperature": [0.5, -1.0]}))
    assert [verdict for _, verdict in row.verdicts] == [Verdict.HONOURED, Verdict.REFUSED]


def test_a_field_without_a_sample_is_asked_for() -> None:
    with pytest.raises(LookupError, match="tool, function: needs a sample"):
        Shape(Tool, "tool", lambda fields: chat(**fields)).values("function")
