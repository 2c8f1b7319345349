"""Computed prompts that outlive an engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tests.engine.drive import VOCABULARY, expected, request, run_to_end, without_cache
from tests.fakes import FakeBackend, FakeModel

from camelid.engine.engine import Engine
from camelid.engine.settings import EngineSettings

SETTINGS = EngineSettings(vocabulary_size=VOCABULARY, context_length=200, num_pages=40)


class MemoryStore:
    """A page store that counts; `lost` are digests that it has but cannot load."""

    def __init__(self) -> None:
        self.pages: dict[bytes, NDArray[np.uint8]] = {}
        self.lost: set[bytes] = set()
        self.num_loaded = 0

    def has(self, digest: bytes) -> bool:
        return digest in self.pages

    def load(self, digest: bytes) -> NDArray[np.uint8] | None:
        if digest in self.lost:
            return None
        self.num_loaded += 1
        return self.pages[digest]

    def save(self, digest: bytes, content: NDArray[np.uint8]) -> None:
        assert digest not in self.pages
        self.pages[digest] = content

    def close(self) -> None:
        pass


def new_engine(store: MemoryStore, **settings: int) -> Engine:
    numbers = {**SETTINGS.__dict__, **settings}
    return Engine(FakeModel(), FakeBackend(numbers["num_pages"], VOCABULARY), EngineSettings(**numbers), store=store)


def test_another_engine_goes_on_from_the_kept_prompt_with_the_same_answer():
    store, asked = MemoryStore(), request(length=100)
    first = run_to_end(new_engine(store), [asked])
    assert len(store.pages) == 3  # whole pages of the prompt; nothing of the answer
    engine = new_engine(store)
    second = run_to_end(engine, [asked])
    assert without_cache(second) == without_cache(first) == expected(asked)
    assert second["r", 0][0].cached_tokens == 96
    assert engine.stats()["computed_tokens"] == 4 + 9


def test_a_prompt_that_begins_alike_takes_over_what_is_alike():
    store = MemoryStore()
    run_to_end(new_engine(store), [request(length=100)])
    longer = request(length=150)
    answers = run_to_end(new_engine(store), [longer])
    assert without_cache(answers) == expected(longer)
    assert answers["r", 0][0].cached_tokens == 96
    assert len(store.pages) == 4


def test_what_is_in_memory_is_not_loaded():
    store = MemoryStore()
    engine = new_engine(store)
    run_to_end(engine, [request("a", length=100)])
    run_to_end(engine, [request("b", length=100)])
    assert store.num_loaded == 0


def test_a_lost_page_and_those_behind_it_are_computed():
    store, asked = MemoryStore(), request(length=100)
    run_to_end(new_engine(store), [asked])
    store.lost = set(list(store.pages)[1:2])
    answers = run_to_end(new_engine(store), [asked])
    assert without_cache(answers) == expected(asked)
    assert answers["r", 0][0].cached_tokens == 32


def test_many_at_once_with_few_pages_answer_as_alone():
    store = MemoryStore()
    asked = [request(str(number), length=60 + 7 * number, first=number % 3) for number in range(8)]
    run_to_end(new_engine(store), asked)
    answers = run_to_end(new_engine(store, num_pages=9, max_sequences=4), asked)
    assert without_cache(answers) == expected(*asked)
