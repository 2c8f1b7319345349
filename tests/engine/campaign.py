"""A long random life of an engine, checked against each request alone. A command with a size:

    python -m tests.engine.campaign --steps 100000 --seed 1

Requests come, go, resume and fail at random on the fake backend, with few pages and random limits; every token must be
the one that the oracle gives, and the books must balance after every step.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from tests.engine.oracle import answer_of, check_invariants
from tests.fakes import FakeBackend, FakeModel

from camelid.backends.base import PAGE_TOKENS
from camelid.engine.engine import Engine
from camelid.engine.request import GenerateRequest, Token
from camelid.engine.scheduler import MAX_PREEMPTIONS
from camelid.engine.settings import EngineSettings
from camelid.errors import Overloaded
from camelid.types import Sampling

VOCABULARY = 48
STEPS_PER_ENGINE = 250


@dataclass
class Open:
    """A request in flight: the whole answer of each unfinished choice, and what of it is still to come."""

    request: GenerateRequest
    whole: dict[int, list[Token]]
    coming: dict[int, list[Token]]


@dataclass
class Campaign:
    """One random life. `counts` says how often what happened."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.number = 0

    def run(self, num_steps: int) -> None:
        """Make `num_steps` steps, on a new engine with other limits every now and then."""
        while self.counts["steps"] < num_steps:
            self.open_engine()
            for _ in range(min(STEPS_PER_ENGINE, num_steps - self.counts["steps"])):
                self.act()
                self.step()
            self.finish()

    def open_engine(self) -> None:
        context_length = int(self.random.integers(2, 400))
        fewest = -(-context_length // 32)
        num_pages = fewest + int(self.random.integers(0, fewest + 2))
        self.settings = EngineSettings(
            vocabulary_size=VOCABULARY,
            context_length=context_length,
            num_pages=num_pages,
            max_batch_tokens=int(self.random.choice([1, 7, 13, 32, 64, 256])),
            max_sequences=int(self.random.integers(1, 13)),
            max_waiting=int(self.random.integers(0, 9)),
            max_guessed=int(self.random.choice([0, 1, 6])),
        )
        self.backend = FakeBackend(num_pages, VOCABULARY)
        self.engine = Engine(FakeModel(), self.backend, self.settings)
        self.paragraphs = [self.ids(PAGE_TOKENS) for _ in range(3)]  # the same page behind different beginnings
        self.open: dict[str, Open] = {}
        self.is_busy = self.random.random() < 0.7
        self.is_growing = self.random.random() < 0.4  # short prompts, long answers: pages run out

    def act(self) -> None:
        """Let the outside do something."""
        if self.random.random() < (0.5 if self.is_busy else 0.1):
            request = self.new_request()
            for number in range(int(self.random.choice([1, 1, 1, 3]))):  # a burst of the same prompt
                self.submit(replace(request, id=f"{request.id}-{number}"))
        if self.open and self.random.random() < 0.03:
            self.abort()
        if self.open and self.random.random() < 0.02:
            self.interrupt()
        if self.random.random() < 0.02:
            self.backend.failures.append(OSError("the device fell over"))

    def step(self) -> None:
        will_fail = bool(self.backend.failures) and self.engine.has_work()
        try:
            tokens = self.engine.step()
        except OSError:
            assert will_fail
            self.counts["failed steps"] += 1
            tokens = []
        self.counts["steps"] += 1
        for token in tokens:
            self.take(token)
        check_invariants(self.engine)
        for sequence in (*self.engine._scheduler.waiting, *self.engine._scheduler.running):
            assert sequence.num_preemptions <= MAX_PREEMPTIONS

    def finish(self) -> None:
        """Let everything end, and look whether all is given back."""
        self.backend.failures.clear()
        for _ in range(100_000):
            if not self.engine.has_work():
                break
            self.step()
        assert self.open == {}
        stats = self.engine.stats()
        assert stats["pages_held"] == 0
        for name in (
            "preemptions",
            "reused_tokens",
            "generated_tokens",
            "computed_tokens",
            "guessed_tokens",
            "right_guesses",
        ):
            self.counts[name] += int(stats[name])

    def take(self, token: Token) -> None:
        opened = self.open[token.request_id]
        expected = opened.coming[token.choice].pop(0)
        assert replace(token, cached_tokens=0) == expected, (token, expected, self.settings)
        assert 0 <= token.cached_tokens <= len(opened.request.prompt)
        if token.finish is not None:
            assert opened.coming.pop(token.choice) == []
            self.counts[f"finished by {token.finish.value}"] += 1
        if not opened.coming:
            del self.open[token.request_id]

    def submit(self, request: GenerateRequest) -> None:
        try:
            self.engine.submit(request)
        except Overloaded:
            self.counts["refused"] += 1
            return
        self.counts["submitted"] += 1
        limit = self.settings.context_length
        whole = {choice: answer_of(request, choice, limit, VOCABULARY) for choice in range(request.num_choices)}
        self.open[request.id] = Open(request, whole, {choice: tokens[:] for choice, tokens in whole.items()})

    def abort(self) -> None:
        """Give up a request, or one choice of it."""
        opened = self.open[str(self.random.choice(sorted(self.open)))]
        if self.random.random() < 0.3:
            choice = int(self.random.choice(sorted(opened.coming)))
            self.engine.abort(opened.request.id, choice)
            del opened.coming[choice]
        else:
            self.engine.abort(opened.request.id)
            opened.coming.clear()
        if not opened.coming:
            del self.open[opened.request.id]
        self.counts["aborted"] += 1
        check_invariants(self.engine)

    def interrupt(self) -> None:
        """Lose a request at any point and resume it, as after the death of an engine."""
        opened = self.open.pop(str(self.random.choice(sorted(self.open))))
        self.engine.abort(opened.request.id)
        answers = tuple(
            tuple(token.id for token in tokens[: len(tokens) - len(opened.coming.get(choice, ()))])
            for choice, tokens in opened.whole.items()
        )
        finished = frozenset(opened.whole) - frozenset(opened.coming)
        resumed = replace(opened.request, answers=answers, finished=finished)
        try:
            self.engine.submit(resumed)
        except Overloaded:
            return
        self.open[resumed.id] = replace(opened, request=resumed)
        self.counts["resumed"] += 1

    def ids(self, count: int) -> tuple[int, ...]:
        return tuple(self.random.integers(0, VOCABULARY, count).tolist())

    def new_request(self) -> GenerateRequest:
        self.number += 1
        random = self.random
        most = 10 if self.is_growing else int(random.choice([40, 40, self.settings.context_length]))
        longest = min(most, self.settings.context_length)
        length = int(random.integers(1, longest))
        if random.random() < 0.3 and length > PAGE_TOKENS:
            length -= length % PAGE_TOKENS  # whole pages, so that a prompt can be cached to its end
        paragraphs = [self.paragraphs[int(random.integers(3))] for _ in range(length // PAGE_TOKENS + 1)]
        prompt = tuple(token for paragraph in paragraphs for token in paragraph)[:length]
        max_tokens = 1000 if self.is_growing else int(random.choice([1, 5, 20, 60, 1000]))
        return GenerateRequest(
            id=f"r{self.number}",
            prompt=prompt,
            sampling=self.sampling(),
            max_tokens=max_tokens,
            min_tokens=int(random.integers(0, min(max_tokens, 6) + 1)),
            end_ids=frozenset(self.ids(0 if self.is_growing else int(random.choice([0, 0, 1, 2])))),
            num_choices=int(random.choice([1, 1, 1, 2, 3, 8])),
            top_logprobs=[None, None, 0, 3][int(random.integers(4))],
            scores_prompt=bool(random.random() < 0.2),
        )

    def sampling(self) -> Sampling:
        random = self.random
        if random.random() < 0.5:
            return Sampling(seed=int(random.integers(2**63)))
        return Sampling(
            temperature=float(random.choice([0.0, 0.5, 1.0, 2.0])),
            top_k=int(random.choice([0, 0, 5])),
            top_p=float(random.choice([1.0, 1.0, 0.8])),
            min_p=float(random.choice([0.0, 0.0, 0.1])),
            typical_p=float(random.choice([1.0, 1.0, 0.9])),
            repetition_penalty=float(random.choice([1.0, 1.0, 1.2])),
            presence_penalty=float(random.choice([0.0, 0.0, 0.5])),
            frequency_penalty=float(random.choice([0.0, 0.0, 0.3])),
            penalty_window=[None, 7][int(random.integers(2))],
            logit_bias=self.bias(),
            seed=int(random.integers(2**63)),
        )

    def bias(self) -> dict[int, float]:
        """Return none, a slight one, or one that leaves one or two tokens: those come again, and can be guessed."""
        roll = self.random.random()
        if roll < 0.2:
            return {int(self.random.integers(VOCABULARY)): 2.0}
        return {int(token): 60.0 for token in self.random.choice(VOCABULARY, 1 + (roll < 0.4))} if roll < 0.5 else {}


def main() -> None:
    """Run a campaign and say what happened in it."""
    parser = argparse.ArgumentParser(description="Drive an engine at random and compare with an oracle.")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began_s = time.perf_counter()
    campaign = Campaign(arguments.seed)
    campaign.run(arguments.steps)
    print(f"seed {arguments.seed}: every token as expected, no page lost, in {time.perf_counter() - began_s:.0f} s")
    for name, number in sorted(campaign.counts.items()):
        print(f"  {name}: {number}")


if __name__ == "__main__":
    main()
