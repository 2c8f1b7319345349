"""A draft model: tokens a second of one stream with its guesses and without, and how many of them were right.

Two loaded copies of the model answer in turns, one with the draft model of `--draft` and one without. A pair of
synthetic models that agree is made by `camelid bench synth` with `--active-layers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from camelid.bench.subject import GREEDY, Needs, Subject, opened
from camelid.bench.workload import Case, Outcome, Values, Workload, in_rounds, said_of_rounds
from camelid.errors import InvalidRequest
from camelid.settings import ModelSettings
from camelid.types import Sampling

UNITS = {"decode": "tok/s", "guesses right": "%", "guessed": "% of the answer"}
GUESSED = 6  # at most, where the setting says nothing: for benchmarks it is 0 unless it is asked for


@dataclass(frozen=True)
class Sizes:
    """Tokens of the prompt and of the answer."""

    prompt_tokens: int = 32
    new_tokens: int = 96


def measure(model: str, settings: ModelSettings, sizes: Sizes, runs: int) -> Outcome:
    """Measure both in turns. Raises InvalidRequest without a draft model, and what loading raises."""
    if settings.draft is None:
        raise InvalidRequest("this workload needs a draft model", field="draft", hint="give one with --draft")
    return asyncio.run(_measure(model, settings, sizes, runs))


async def _measure(model: str, settings: ModelSettings, sizes: Sizes, runs: int) -> Outcome:
    needs = Needs(1, sizes.prompt_tokens + sizes.new_tokens)
    guessing = replace(settings, max_guessed=settings.max_guessed or GUESSED)
    async with (
        opened(model, replace(settings, draft=None, max_guessed=0), needs) as plain,
        opened(model, guessing, needs) as drafted,
    ):
        rows = await in_rounds(plain, settings, _cases(plain, drafted, sizes), UNITS, runs)
    about = f"{plain.model.name}, {plain.model.engine.backend}, draft model {settings.draft}"
    note = "Prompt lookup guesses, too, and is not counted here; the roof is that of one token a step"
    return Outcome(tuple(rows), about, (note, *said_of_rounds(plain, runs)))


def _cases(plain: Subject, drafted: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case without guesses and one with them, for greedy and for drawn answers."""
    return [
        _case(subject, name, kind, temperature, sizes)
        for kind, temperature in (("greedy", 0.0), ("drawn", 1.0))
        for name, subject in (("none", plain), ("draft", drafted))
    ]


def _case(subject: Subject, name: str, kind: str, temperature: float, sizes: Sizes) -> Case:
    async def run(number: int) -> Values:
        before = dict(subject.model.engine.stats())
        sampling = GREEDY if temperature == 0 else Sampling(temperature=temperature, seed=number)
        prompt = subject.prompt((kind, number), sizes.prompt_tokens)
        line = await subject.ask(prompt, sizes.new_tokens, sampling=sampling)
        guessed, right = (
            _grown(subject.model.engine.stats(), before, what) for what in ("drafted_tokens", "right_drafts")
        )
        return {
            "decode": line.rate,
            "guesses right": 100 * right / guessed if guessed else 0.0,
            "guessed": 100 * right / sizes.new_tokens,
        }

    middle = sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"answer": kind, "guesses": name},
        run,
        {"decode": lambda work, roofs: 1 / work.decode_seconds(roofs, 1, middle)},
    )


def _grown(now: Mapping[str, float], before: Mapping[str, float], name: str) -> float:
    return now.get(name, 0.0) - before.get(name, 0.0)


WORKLOAD = Workload("draft", "A draft model", {"small": Sizes(), "full": Sizes(256, 512)}, measure)
