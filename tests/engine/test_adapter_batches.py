"""Requests with different adapters in one engine: each is answered as if it were alone, and pages are never shared."""

from __future__ import annotations

from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from tests.engine.drive import request, run_to_end, without_cache
from tests.fakes import FakeBackend, FakeModel

from camelid.engine.adapters import EngineAdapters
from camelid.engine.engine import Engine
from camelid.engine.pages import ROOT, root_of
from camelid.engine.settings import EngineSettings
from camelid.errors import CamelidError, InvalidRequest, NotFound
from camelid.models.low_rank import Adapters, PlacedAdapter


class Shelf:
    """Adapters that are there at once, or when `may_open` is set."""

    def __init__(self) -> None:
        self.table = Adapters()
        self.may_open = Event()
        self.may_open.set()
        self.adapters = EngineAdapters(self.table, self.open)

    def open(self, key: str, path: str) -> PlacedAdapter:
        self.may_open.wait(20)
        if path == "missing":
            raise NotFound("there is no such adapter")
        return PlacedAdapter({})

    def engine(self, *keys: str, **settings: Any) -> Engine:
        for key in keys:
            self.adapters.take(key, f"{key}.gguf")
        limits = EngineSettings(vocabulary_size=48, context_length=200, num_pages=40, **settings)
        return Engine(FakeModel(), FakeBackend(40), limits, adapters=self.adapters)


def test_answers_with_adapters_are_the_same_in_any_company() -> None:
    asked = [request(f"{key}{n}", 30 + n, adapter=key) for n in range(3) for key in ("", "a", "b")]
    alone = {key: tokens for each in asked for key, tokens in run_to_end(Shelf().engine("a", "b"), [each]).items()}
    assert len({tuple(token.id for token in tokens) for tokens in alone.values()}) == len(asked)
    for keys in (("a", "b"), ("b", "a")):  # the numbers that batches use do not count
        together = run_to_end(Shelf().engine(*keys, max_sequences=5, max_batch_tokens=40), asked)
        if keys == ("a", "b"):
            assert without_cache(together) == alone


def test_pages_of_one_adapter_are_of_no_use_to_another() -> None:
    engine = Shelf().engine("a", "b")
    reused = []
    for key in ("", "a", "b", "a", ""):
        before = engine.stats()["reused_tokens"]
        run_to_end(engine, [request(f"{key}{len(reused)}", 70, adapter=key)])
        reused.append(engine.stats()["reused_tokens"] - before)
    assert reused == [0, 0, 0, 64, 64]
    assert len({root_of(""), root_of("a"), root_of("b")}) == 3
    assert root_of("") == ROOT


def test_an_adapter_that_is_not_there_is_refused() -> None:
    engine = Shelf().engine("a")
    with pytest.raises(InvalidRequest, match="the adapter is not loaded"):
        engine.submit(request(adapter="b"))
    assert not engine.has_work()


def test_a_request_waits_for_its_adapter_while_others_go_on() -> None:
    shelf = Shelf()
    engine = shelf.engine()
    shelf.may_open.clear()
    engine.adapt("late", "late.gguf")
    waiting = engine.prepare(request("r", adapter="late"))
    assert waiting is not None
    assert not waiting.done()
    assert engine.prepare(request("s")) is None
    assert run_to_end(engine, [request("s")])
    assert engine.is_adapting()
    assert engine.adapted() == []
    shelf.may_open.set()
    assert waiting.result(20) is None
    assert engine.adapted() == [("late", None)]
    assert engine.prepare(request("r", adapter="late")) is None
    assert run_to_end(engine, [request("r", adapter="late")])
    engine.close()


def test_what_is_wrong_with_an_adapter_is_told_to_who_loads_it_and_to_who_waits() -> None:
    shelf = Shelf()
    engine = shelf.engine()
    shelf.may_open.clear()
    engine.adapt("gone", "missing")
    waiting = engine.prepare(request(adapter="gone"))
    shelf.may_open.set()
    assert waiting is not None
    assert isinstance(waiting.exception(20), NotFound)
    ((key, error),) = engine.adapted()
    assert key == "gone"
    assert isinstance(error, CamelidError)
    engine.close()


def test_a_forgotten_adapter_stays_for_the_requests_that_use_it() -> None:
    shelf = Shelf()
    engine = shelf.engine("a")
    asked = request("r", 20, adapter="a")
    expected = run_to_end(Shelf().engine("a"), [asked])
    engine.submit(asked)
    engine.step()
    engine.forget_adapter("a")
    assert len(shelf.table.placed) == 1
    with pytest.raises(InvalidRequest):
        engine.submit(replace(asked, id="late"))
    found = [token for _ in range(20) if engine.has_work() for token in engine.step()]
    assert found == expected["r", 0][1:]
    assert shelf.table.placed == {}
    engine.forget_adapter("never there")
