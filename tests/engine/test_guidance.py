"""Classifier-free guidance: an answer and its guide run in the same steps, whatever else runs and however pages end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.engine.drive import VOCABULARY, expected, fake_engine, request, run_to_end, without_cache
from tests.fakes import FakeBackend

from camelid.engine.guidance import guiding_prompt, most_guided_answer, most_guided_pages
from camelid.engine.request import GenerateRequest
from camelid.errors import CamelidError, InvalidRequest
from camelid.rules import Beams, Rules
from camelid.types import Sampling

GUIDED = Rules(guidance_scale=1.7)


def guided(id_: str = "g", length: int = 40, **fields: object) -> GenerateRequest:
    return request(id_, length, **{"rules": GUIDED, "max_tokens": 40, **fields})


@pytest.mark.parametrize("length", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("guide", [(), (3,), tuple(range(33)), tuple(range(45))])
def test_a_guided_answer_is_drawn_from_both_prompts(length: int, guide: tuple[int, ...]) -> None:
    asked = guided(length=length, guide=guide)
    found = without_cache(run_to_end(fake_engine(max_batch_tokens=16), [asked]))
    assert found == expected(asked)
    is_alike = guiding_prompt(asked) == asked.prompt  # then there is nothing to be far from
    assert (found == expected(replace(asked, rules=None))) is is_alike


def test_guided_answers_among_others_change_nothing() -> None:
    requests = [
        guided("a", 50, num_choices=3, guide=tuple(range(20))),
        request("b", 40, num_choices=2, max_tokens=30),
        guided("c", 33, sampling=Sampling(temperature=0.0), end_ids=frozenset(range(0, 48, 7))),
        request("d", 20, beams=Beams(3), end_ids=frozenset({5})),
        guided("e", 12, top_logprobs=2),
    ]
    assert without_cache(run_to_end(fake_engine(num_pages=80), requests)) == expected(*requests)


@pytest.mark.parametrize("num_pages", [14, 16, 19, 23])
def test_answers_that_lose_their_pages_find_their_guides_again(num_pages: int) -> None:
    requests = [
        request("o", 8, max_tokens=120),
        guided("a", 40, num_choices=2, max_tokens=90, guide=tuple(range(35))),
        guided("b", 20, max_tokens=100),
        request("p", 40, first=7, max_tokens=100),
    ]
    engine = fake_engine(num_pages=num_pages)
    assert without_cache(run_to_end(engine, requests)) == expected(*requests)
    assert engine.stats()["preemptions"] > 0


@pytest.mark.parametrize("max_sequences", [2, 3, 5])
def test_few_places_are_enough(max_sequences: int) -> None:
    requests = [guided(name, 20, num_choices=3, max_tokens=20) for name in "ab"]
    engine = fake_engine(max_sequences=max_sequences)
    assert without_cache(run_to_end(engine, requests)) == expected(*requests)


def test_a_failed_step_is_made_again() -> None:
    backend = FakeBackend(40, VOCABULARY)
    engine = fake_engine(backend)
    asked = guided()
    engine.submit(asked)
    tokens = []
    for number in range(100):
        if number % 3 == 1 and engine.has_work():
            backend.failures.append(OSError("the device fell over"))
            with pytest.raises(OSError, match="fell over"):
                engine.step()
        tokens += engine.step()
    assert [replace(token, cached_tokens=0) for token in tokens] == expected(asked)["g", 0]


def test_giving_an_answer_up_frees_its_guide() -> None:
    engine = fake_engine()
    engine.submit(guided(num_choices=2))
    for _ in range(6):
        engine.step()
    engine.abort("g", 0)
    engine.step()
    engine.abort("g")
    assert not engine.has_work()
    assert engine.stats()["pages_held"] == 0


def test_a_resumed_answer_goes_on_where_it_stopped() -> None:
    asked = guided(guide=(3, 1, 4))
    whole = run_to_end(fake_engine(), [asked])["g", 0]
    resumed = replace(asked, answers=(tuple(token.id for token in whole[:9]),))
    assert run_to_end(fake_engine(), [resumed])["g", 0] == whole[9:]


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"max_sequences": 1}, {}),
        ({"num_pages": 8}, {"max_tokens": 150}),
        ({}, {"guide": tuple(range(48)) * 4, "max_tokens": 20}),
        ({}, {"guide": (VOCABULARY,)}),
        ({}, {"beams": Beams(2)}),
    ],
)
def test_what_cannot_be_carried_to_its_end_is_refused(settings: dict[str, int], values: dict[str, object]) -> None:
    engine = fake_engine(**settings)
    with pytest.raises(CamelidError):
        engine.submit(guided(**values))  # type: ignore[arg-type]
    assert not engine.has_work()


def test_what_the_hint_says_fits() -> None:
    for num_prompt, num_guide, num_pages in ((40, 1, 9), (1, 1, 6), (64, 33, 12)):
        most = most_guided_answer(num_prompt, num_guide, num_pages)
        assert most >= 1
        assert most_guided_pages(num_prompt, num_guide, most) <= num_pages
    with pytest.raises(InvalidRequest) as refused:
        fake_engine(num_pages=8).submit(guided(max_tokens=150))
    assert refused.value.hint == f"ask for max_tokens up to {most_guided_answer(40, 1, 8)}"
