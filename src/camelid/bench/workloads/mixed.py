"""W10: a long prompt arrives while others are being answered. How long do those others wait for a token?"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.result import percentile
from camelid.bench.subject import Needs, Subject
from camelid.bench.workload import Case, Values, Workload, in_engine

SETTLING_TOKENS = 8  # of each stream, before the prompt arrives and after
LOOK_S = 0.01


@dataclass(frozen=True)
class Sizes:
    """Streams that are being answered; tokens of the prompt that arrives."""

    streams: int = 4
    arriving_tokens: int = 1024
    prompt_tokens: int = 32


def needs(sizes: Sizes) -> Needs:
    """Return the room for the prompt, and for streams that outlive it."""
    return Needs(sizes.streams + 1, sizes.prompt_tokens + 3 * sizes.arriving_tokens)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return the one case."""

    async def run(number: int) -> Values:
        seen: list[list[float]] = [[] for _ in range(sizes.streams)]
        streams = [asyncio.ensure_future(_stream(subject, sizes, (number, i), seen[i])) for i in range(sizes.streams)]
        try:
            await _settle(seen, streams)
            arriving = await subject.ask(subject.prompt(("arriving", number), sizes.arriving_tokens), 1)
            await _settle(seen, streams)
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
        return gaps(seen, arriving.asked_s, arriving.token_s[0])

    least = {"first token of the prompt": lambda work, roofs: work.prefill_seconds(roofs, sizes.arriving_tokens)}
    return [Case({"streams": str(sizes.streams), "arriving prompt": f"{sizes.arriving_tokens:,}"}, run, least)]


def gaps(seen: Sequence[Sequence[float]], asked_s: float, answered_s: float) -> Values:
    """Return the gaps between the streams' tokens, while a prompt was computed beside them and while none was."""
    beside: list[float] = []
    alone: list[float] = []
    for token_s in seen:
        for before, after in itertools.pairwise(token_s):
            (beside if after > asked_s and before < answered_s else alone).append(after - before)
    usual = percentile(alone, 50)
    return {
        "gap alone, median": usual * 1e3,
        "gap beside, median": percentile(beside, 50) * 1e3,
        "longest gap": max(beside) * 1e3,
        "longest / usual": max(beside) / usual,
        "first token of the prompt": answered_s - asked_s,
    }


async def _stream(subject: Subject, sizes: Sizes, seed: object, seen: list[float]) -> None:
    await subject.ask(subject.prompt(seed, sizes.prompt_tokens), 2 * sizes.arriving_tokens, see=seen.append)


async def _settle(seen: Sequence[Sequence[float]], streams: Sequence[asyncio.Future[None]]) -> None:
    """Wait until every stream has gone on for a while, or has ended."""
    wanted = [len(token_s) + SETTLING_TOKENS for token_s in seen]
    while any(
        len(token_s) < count and not stream.done() for token_s, count, stream in zip(seen, wanted, streams, strict=True)
    ):
        await asyncio.sleep(LOOK_S)


UNITS = {
    "gap alone, median": "ms",
    "gap beside, median": "ms",
    "longest gap": "ms",
    "longest / usual": "×",
    "first token of the prompt": "s",
}

WORKLOAD = Workload(
    "mixed",
    "W10: a long prompt arrives beside running answers",
    {"small": Sizes(), "full": Sizes(8, 8192)},
    in_engine(UNITS, needs, cases),
)
