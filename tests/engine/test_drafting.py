"""A draft model beside the model: answers are the same with and without, and guesses that do not pay are left alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.engine.drive import VOCABULARY, Answers, request, run_to_end, without_cache
from tests.fakes import FakeBackend, FakeModel

from camelid.backends.base import Array, Batch, Forward
from camelid.engine.drafting import Draft
from camelid.engine.engine import Engine
from camelid.engine.payoff import PLAIN_STEPS, SHORTEST_PAUSE, TRIAL_STEPS, Payoff
from camelid.engine.request import GenerateRequest
from camelid.engine.settings import EngineSettings
from camelid.types import Sampling


@dataclass
class Clock:
    """Time that passes where backends compute."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class TimedBackend(FakeBackend):
    """Takes `batch_s` for a batch; with `noise`, its logits are others for one token in so many."""

    def __init__(self, num_pages: int, clock: Clock, batch_s: float, noise: int = 0) -> None:
        super().__init__(num_pages)
        self._clock, self._batch_s, self._noise = clock, batch_s, noise
        self.num_runs = 0

    def run(self, model: Forward, batch: Batch) -> Array:
        self._clock.now_s += self._batch_s
        self.num_runs += 1
        logits: NDArray[np.float32] = super().run(model, batch)
        if self._noise:
            rows = [row for row, index in enumerate(batch.wanted) if batch.ids[index] % self._noise == 0]
            logits[rows] = logits[rows, ::-1]
        return logits


def drafted(batch_s: float = 0.01, noise: int = 0, **settings: Any) -> tuple[Engine, TimedBackend]:
    """Return an engine whose draft model takes `batch_s` seconds where the model takes one."""
    clock = Clock()
    numbers = {"vocabulary_size": VOCABULARY, "context_length": 200, "num_pages": 40, "max_guessed": 6, **settings}
    small = TimedBackend(numbers["num_pages"], clock, batch_s, noise)
    draft = Draft(FakeModel(), small, numbers["num_pages"], 150)
    large = TimedBackend(numbers["num_pages"], clock, 1.0)
    return Engine(FakeModel(), large, EngineSettings(**numbers), clock, draft=draft), small


def plain(*asked: GenerateRequest) -> Answers:
    limits = EngineSettings(vocabulary_size=VOCABULARY, context_length=200, num_pages=40)
    return run_to_end(Engine(FakeModel(), FakeBackend(40), limits), asked)


ASKED = [
    request("greedy", 40, sampling=Sampling(temperature=0), max_tokens=90),
    request("sampled", 33, first=3, sampling=Sampling(temperature=0.8, top_p=0.95, seed=4), max_tokens=70),
    request("wild", 5, first=9, sampling=Sampling(temperature=1.5, repetition_penalty=1.2, seed=5), max_tokens=60),
    request("ended", 70, sampling=Sampling(seed=6), max_tokens=60, end_ids=frozenset({7}), min_tokens=20),
    request("several", 50, first=1, sampling=Sampling(seed=7), num_choices=3, max_tokens=40, top_logprobs=2),
    request("long", 160, sampling=Sampling(seed=8), max_tokens=60),
]


@pytest.mark.parametrize("noise", [0, 3, 1], ids=["alike", "often right", "wrong"])
@pytest.mark.parametrize("pages", [40, 13], ids=["room", "preemption"])
def test_answers_are_the_same_with_and_without(noise: int, pages: int) -> None:
    expected = plain(*ASKED)
    engine, small = drafted(noise=noise, num_pages=pages)
    assert without_cache(run_to_end(engine, ASKED)) == without_cache(expected)
    stats = engine.stats()
    assert stats["drafted_tokens"] > 0
    if noise == 0:
        assert stats["right_drafts"] == stats["drafted_tokens"]  # sampled tokens, too: the draws are the same
    assert small.num_runs > 0


def test_each_answer_alone_takes_fewer_steps_where_both_models_agree() -> None:
    for asked in ASKED[:2]:
        engine, _ = drafted()
        run_to_end(engine, [asked])
        assert engine.stats()["steps"] < 0.45 * asked.max_tokens


def test_a_draft_model_that_does_not_pay_is_left_alone() -> None:
    for batch_s, noise in ((1.2, 0), (0.1, 1)):
        engine, small = drafted(batch_s, noise)
        run_to_end(engine, [request(length=20, max_tokens=150)])
        assert engine.stats()["draft_paused"] == 1
        assert small.num_runs <= 6 * TRIAL_STEPS + 2


def test_resumed_answers_go_on_as_they_were() -> None:
    asked = ASKED[1]
    whole = plain(asked)[asked.id, 0]
    for kept in (1, 30, 50):
        engine, _ = drafted()
        resumed = replace(asked, answers=(tuple(token.id for token in whole[:kept]),))
        assert run_to_end(engine, [resumed])[asked.id, 0] == whole[kept:]


def test_a_draft_model_with_broken_logits_is_left_alone() -> None:
    engine, small = drafted()
    small.broken_after = frozenset(range(VOCABULARY))
    assert without_cache(run_to_end(engine, ASKED[:2])) == without_cache(plain(*ASKED[:2]))
    assert (engine.stats()["draft_paused"], small.num_runs) == (1, 1)


def test_sampled_answers_are_equal_for_every_seed() -> None:
    """More than the same distribution: the very tokens, so nothing is left for statistics to test."""
    for seed in range(25):
        asked = request("r", 3, sampling=Sampling(temperature=1.2, seed=seed), max_tokens=14)
        engine, _ = drafted(noise=2)
        assert run_to_end(engine, [asked]) == plain(asked)


def steps(payoff: Payoff, count: int, tokens: int, guessed_s: float) -> list[bool]:
    """Run steps that take a second without guesses; return which had them."""
    had = []
    for _ in range(count):
        had.append(payoff.is_worth_it(1))
        if had[-1]:
            payoff.note_guessed(1, tokens, guessed_s)
        else:
            payoff.note_plain(1, 1.0)
    return had


def test_guesses_that_pay_go_on_and_others_are_tried_ever_more_rarely() -> None:
    good = steps(Payoff(), 500, tokens=4, guessed_s=2.0)
    assert sum(good) > 480
    bad = steps(Payoff(), 20_000, tokens=1, guessed_s=1.5)
    assert bad[:PLAIN_STEPS] == [False] * PLAIN_STEPS
    assert bad[PLAIN_STEPS : PLAIN_STEPS + TRIAL_STEPS] == [True] * TRIAL_STEPS
    assert not any(bad[PLAIN_STEPS + TRIAL_STEPS :][:SHORTEST_PAUSE])
    assert sum(bad) * 0.5 / 20_000 < 0.01  # of the time


def test_what_paid_and_does_not_any_more_is_given_up() -> None:
    payoff = Payoff()
    assert steps(payoff, 50, tokens=4, guessed_s=2.0)[-1]
    later = steps(payoff, 100, tokens=1, guessed_s=2.0)
    assert sum(later) < 30
    assert payoff.is_off(1)
