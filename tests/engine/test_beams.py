"""Searches with beams: the same answers alone and among others, whatever pages there are; Transformers' arithmetic."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.engine.drive import VOCABULARY, expected, fake_engine, request, run_to_end, without_cache
from tests.fakes import FakeBackend

from camelid.backends.base import PAGE_TOKENS, Drawn, Spread
from camelid.engine.beam_group import most_pages
from camelid.engine.beams import BeamSearch
from camelid.engine.request import GenerateRequest
from camelid.errors import InvalidRequest, RequestsFailed
from camelid.grammar.vocabulary import Vocabulary
from camelid.rules import Beams, Rules
from camelid.types import FinishReason, Sampling


def search(id_: str = "s", length: int = 40, **fields: object) -> GenerateRequest:
    """Return a search with four beams for the best two answers."""
    return request(id_, length, **{"beams": Beams(4), "num_choices": 2, "end_ids": frozenset({5}), **fields})


@pytest.mark.parametrize("length", [1, 31, 32, 33, 40, 64])
@pytest.mark.parametrize("samples", [False, True])
def test_a_search_finds_what_it_finds_with_every_beam_computed_anew(length: int, samples: bool) -> None:
    asked = search(length=length, max_tokens=45, beams=Beams(4, samples=samples))
    assert without_cache(run_to_end(fake_engine(), [asked])) == expected(asked)


def test_a_search_among_plain_requests_and_other_searches_changes_nothing() -> None:
    requests = [
        search("a", 40, max_tokens=60),
        request("b", 50, first=3, max_tokens=40),
        search("c", 20, max_tokens=30, beams=Beams(3, 0.0, "never"), num_choices=3),
        request("d", 33, first=9, num_choices=2, max_tokens=50),
        search("e", 40, max_tokens=20, beams=Beams(2, 2.0, True), rules=Rules(no_repeat_ngram_size=2)),
        search("f", 33, max_tokens=35, beams=Beams(4, samples=True), sampling=Sampling(seed=4, top_k=9, top_p=0.8)),
    ]
    engine = fake_engine()
    assert without_cache(run_to_end(engine, requests)) == expected(*requests)


def test_a_search_that_loses_its_pages_begins_again_and_finds_the_same() -> None:
    older = [request(f"o{number}", 8, first=number, max_tokens=150) for number in range(3)]
    asked = search(length=8, max_tokens=120, end_ids=frozenset())
    engine = fake_engine(num_pages=16)
    answers = run_to_end(engine, [*older, asked])
    assert without_cache(answers) == expected(*older, asked)
    assert engine.stats()["preemptions"] > 0


def test_a_failed_step_is_made_again() -> None:
    backend = FakeBackend(40, VOCABULARY)
    engine = fake_engine(backend)
    asked = search(length=40, max_tokens=40)
    engine.submit(asked)
    tokens = []
    for number in range(1000):
        if not engine.has_work():
            break
        if number % 3 == 1:
            backend.failures.append(OSError("the device fell over"))
            with pytest.raises(OSError, match="fell over"):
                engine.step()
        tokens += engine.step()
    assert [replace(token, cached_tokens=0) for token in tokens] == [
        token for answer in expected(asked).values() for token in answer
    ]


def test_a_search_that_has_no_more_time_ends_with_the_best_that_it_has() -> None:
    times_s = iter(np.arange(0, 1000, 0.5).tolist())
    asked = search(max_tokens=60, end_ids=frozenset(), max_seconds=4.0)
    engine = fake_engine()
    engine._clock_s = lambda: next(times_s)
    answers = run_to_end(engine, [asked])
    length = len(answers["s", 0])
    assert 1 < length < 10
    assert without_cache(answers) == expected(replace(asked, max_tokens=length))


def test_a_search_that_its_rules_leave_nothing_fails_alone() -> None:
    everything = tuple((token,) for token in range(VOCABULARY))
    engine = fake_engine()
    other = request("b", 50, first=3, max_tokens=20)
    for each in (search(rules=Rules(bad_words_ids=everything), end_ids=frozenset()), other):
        engine.submit(each)
    tokens, failed = [], []
    while engine.has_work():
        try:
            tokens += engine.step()
        except RequestsFailed as error:
            failed += error.request_ids
    assert failed == ["s"]
    assert [replace(token, cached_tokens=0) for token in tokens] == expected(other)["b", 0]
    assert engine.stats()["pages_held"] == 0


def test_the_prompt_is_computed_once() -> None:
    engine = fake_engine()
    run_to_end(engine, [search(length=64, max_tokens=3, end_ids=frozenset())])
    assert engine.stats()["computed_tokens"] == 64 + 2 * 4


def test_beams_share_the_pages_of_what_they_have_in_common() -> None:
    engine = fake_engine()
    engine.submit(search(length=96, max_tokens=20, end_ids=frozenset()))
    held = []
    for _ in range(15):
        engine.step()
        held.append(engine.stats()["pages_held"])
    assert min(held[1:]) > 96 // PAGE_TOKENS
    assert max(held) <= 96 // PAGE_TOKENS + 4


def test_giving_a_search_up_frees_all_of_it() -> None:
    engine = fake_engine()
    engine.submit(search())
    for _ in range(5):
        engine.step()
    engine.abort("s")
    assert not engine.has_work()
    assert engine.stats()["pages_held"] == 0


def test_a_resumed_search_begins_again_and_tells_everything_again() -> None:
    asked = search(length=40)
    whole = run_to_end(fake_engine(), [asked])
    answers = tuple(tuple(token.id for token in whole["s", choice]) for choice in range(2))
    resumed = replace(asked, answers=(answers[0], ()), finished=frozenset({0}))
    assert run_to_end(fake_engine(), [resumed]) == whole


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("num_beams", {"beams": Beams(9)}),
        ("max_tokens", {"max_tokens": 190, "length": 8}),
        ("bad_words_ids", {"rules": Rules(bad_words_ids=((VOCABULARY,),))}),
        ("stop", {"stops": (b"x",)}),
    ],
)
def test_what_cannot_be_carried_to_its_end_is_refused_by_name(field: str, values: dict[str, object]) -> None:
    engine = fake_engine(max_sequences=8, num_pages=20)
    with pytest.raises(InvalidRequest) as caught:
        engine.submit(search(**values))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert not engine.has_work()


def test_the_bound_of_pages_is_that_of_beams_that_share_only_the_prompt() -> None:
    assert most_pages(40, 10, 4) == 1 + 4
    assert most_pages(32, 34, 4) == 1 + 4 * 2
    assert most_pages(31, 2, 1) == 1


def test_a_stop_string_ends_a_beam_wherever_its_tokens_begin() -> None:
    pieces = tuple(bytes([97 + number % 26]) * (1 + number % 2) for number in range(VOCABULARY))
    engine = fake_engine()
    engine.learn(Vocabulary(pieces, (), (0,)))
    asked = search(max_tokens=60, num_choices=4, end_ids=frozenset(), stops=(b"e", b"dd"))
    answers = run_to_end(engine, [asked])
    for tokens in answers.values():
        texts = [pieces[token.id] for token in tokens]
        has_stop = [b"e" in text or b"dd" in text for text in texts]
        if tokens[-1].finish is FinishReason.STOP:
            joined = b"".join(texts[-2:])
            assert b"e" in joined or b"dd" in joined
        assert not any(has_stop[:-1])
    assert any(tokens[-1].finish is FinishReason.STOP for tokens in answers.values())


def row(scores: dict[int, float], noise: list[float] | None = None) -> Drawn:
    """Return what a backend gives for a row with these scores."""
    ids = np.array(sorted(scores), np.intp)
    values = np.array([scores[token] for token in sorted(scores)], np.float32)
    return Drawn(int(ids[0]), spread=Spread(ids, values, None if noise is None else np.array(noise)))


def test_length_penalty_and_early_stopping_decide_as_transformers_says() -> None:
    """Two beams over three tokens, of which 0 ends an answer; worked out by hand."""
    search_ = BeamSearch(Beams(2, 1.0, True), 1, 10, lambda parent, token: token == 0)
    grown = search_.take([row({0: -1.0, 1: -0.5, 2: -2.0})])
    assert grown is not None
    assert [(one.parent, one.link.token, one.is_over) for one in grown] == [(0, 1, False), (0, 2, False)]
    grown = search_.take([row({0: -0.25, 1: -3.0, 2: -3.0}), row({0: -0.5, 1: -4.0, 2: -4.0})])
    assert grown is None
    assert [([link.token for link in found.link.path()], found.score) for found in search_.best(2)] == [
        ([1, 0], -0.375),
        ([0], -1.0),
    ]


def test_drawn_beams_follow_the_distribution() -> None:
    """One draw of a pair without replacement, many times: the share of each first token is its probability."""
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    backend = FakeBackend(1, 3)
    firsts: Counter[int] = Counter()
    from camelid.backends.base import Draw, SpreadDraw

    draws = [
        Draw(Sampling(seed=seed), 0, 7, (0,), (), spread=SpreadDraw(2, samples=True, keep=2)) for seed in range(4000)
    ]
    for drawn in backend.sample(np.tile(logits, (4000, 1)), draws):
        spread = drawn.spread
        assert spread is not None
        assert spread.noise is not None
        firsts[int(spread.ids[np.argmax(spread.scores + spread.noise)])] += 1
    assert [firsts[token] / 4000 for token in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
