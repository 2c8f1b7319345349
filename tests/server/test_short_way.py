"""The short way of a streamed answer's pieces: the same bytes, and closed wherever care is needed."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from camelid.server.short_way import offer, short_way


class Cycle(SimpleNamespace):
    """What uvicorn keeps of one request and its answer, as far as it matters here."""


def cycle(**changes: Any) -> Any:
    written: list[bytes] = []
    usual = {
        "scope": {"type": "http"},
        "chunked_encoding": True,
        "response_started": True,
        "response_complete": False,
        "disconnected": False,
        "flow": SimpleNamespace(write_paused=False),
        "transport": SimpleNamespace(write=written.append),
        "written": written,
    }
    return Cycle(**usual | changes)


def test_a_piece_is_written_as_one_chunk() -> None:
    answering = cycle()
    offer(answering)
    assert short_way(answering.scope)(b"data: {}\n\n")
    assert answering.written == [b"a\r\ndata: {}\n\n\r\n"]


@pytest.mark.parametrize(
    "state",
    [
        {"chunked_encoding": None},
        {"response_started": False},
        {"response_complete": True},
        {"disconnected": True},
        {"flow": SimpleNamespace(write_paused=True)},
    ],
    ids=["no chunks", "no headers yet", "complete", "client gone", "slow reader"],
)
def test_it_is_closed_where_care_is_needed(state: dict[str, Any]) -> None:
    answering = cycle(**state)
    offer(answering)
    assert not short_way(answering.scope)(b"x")
    assert answering.written == []


def test_a_server_without_it_has_none() -> None:
    assert not short_way({"type": "http"})(b"x")


def test_it_keeps_no_answer_alive() -> None:
    answering = cycle()
    offer(answering)
    write, gone = short_way(answering.scope), weakref.ref(answering)
    gc.disable()  # nothing but the count of references may be needed
    try:
        del answering
        assert gone() is None
    finally:
        gc.enable()
    assert not write(b"x")
