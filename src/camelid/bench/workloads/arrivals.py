"""W4: requests of mixed lengths, as logs of public chats have them: all at once, and at random times.

Goodput counts the requests that were answered in time: the first token within one bound, the others within another on
average.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.roofs import Roofs
from camelid.bench.subject import Needs, Subject, Timeline
from camelid.bench.work import Work
from camelid.bench.workload import Case, Values, Workload, in_engine

from .chats import UNITS, summed_up

SPREAD = 0.9  # of the logarithm of a length: half of the requests are shorter than two thirds of the mean


@dataclass(frozen=True)
class Sizes:
    """Requests; tokens on average and at most; rates of arrival; bounds. The rate 0 is all at once."""

    requests: int = 8
    mean_prompt_tokens: int = 64
    mean_answer_tokens: int = 24
    most_tokens: int = 256
    rates: tuple[float, ...] = (0.0, 0.5)  # requests a second
    first_token_s: float = 2.0
    gap_ms: float = 200.0
    streams: int = 16


def needs(sizes: Sizes) -> Needs:
    """Return the room for the longest request."""
    return Needs(max(sizes.streams, sizes.requests), 2 * sizes.most_tokens + 1)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case for each rate."""
    return [_case(subject, sizes, rate) for rate in sizes.rates]


def _case(subject: Subject, sizes: Sizes, rate: float) -> Case:
    async def run(number: int) -> Values:
        drawn = random.Random(number)
        lengths = [_lengths(sizes, drawn) for _ in range(sizes.requests)]
        starts = arrivals(sizes.requests, rate, drawn)
        lines = await asyncio.gather(
            *(
                _after(start, subject, subject.prompt((rate, number, i), prompt), answer)
                for i, (start, (prompt, answer)) in enumerate(zip(starts, lengths, strict=True))
            )
        )
        in_time = sum(is_in_time(line, sizes.first_token_s, sizes.gap_ms / 1e3) for line in lines)
        seconds = max(line.token_s[-1] for line in lines) - min(line.asked_s for line in lines)
        return {"goodput": in_time / seconds, "in time": 100 * in_time / len(lines), **summed_up(lines)}

    def most(work: Work, roofs: Roofs) -> float:
        prompt, answer = sizes.mean_prompt_tokens, sizes.mean_answer_tokens
        return sizes.requests * answer / work.crowd_seconds(roofs, sizes.requests, 1, prompt, 0, answer)

    labels = {"arriving": f"{rate:g} a second" if rate else "all at once"}
    return Case(labels, run, {} if rate else {"answers": most})


def arrivals(count: int, rate: float, drawn: random.Random) -> list[float]:
    """Return when each request comes: a Poisson process of `rate` a second, or all at 0."""
    starts, now = [], 0.0
    for _ in range(count):
        starts.append(now)
        now += drawn.expovariate(rate) if rate else 0.0
    return starts


def is_in_time(line: Timeline, first_s: float, gap_s: float) -> bool:
    """Return whether a request was answered within the bounds."""
    return line.first_s <= first_s and (len(line.token_s) < 2 or 1 / line.rate <= gap_s)


def _lengths(sizes: Sizes, drawn: random.Random) -> tuple[int, int]:
    """Draw the lengths of a prompt and an answer: log-normal, cut off at the longest."""
    means = sizes.mean_prompt_tokens, sizes.mean_answer_tokens
    prompt, answer = (math.exp(drawn.gauss(math.log(mean) - SPREAD**2 / 2, SPREAD)) for mean in means)
    return min(sizes.most_tokens, max(4, round(prompt))), min(sizes.most_tokens, max(2, round(answer)))


async def _after(seconds: float, subject: Subject, prompt: tuple[int, ...], answer: int) -> Timeline:
    await asyncio.sleep(seconds)
    return await subject.ask(prompt, answer)


WORKLOAD = Workload(
    "arrivals",
    "W4: requests of mixed lengths",
    {"small": Sizes(), "full": Sizes(64, 220, 200, 1024, (0.0, 0.25, 0.5, 1.0, 2.0))},
    in_engine(
        {"goodput": "req/s", "in time": "%", **{name: unit for name, unit in UNITS.items() if "cold" not in name}},
        needs,
        cases,
        "In time: by default the first token within 2 s and 200 ms a token after it; on a GPU use 0.5 s and 50 ms",
    ),
)
