"""Kill the engine process again and again while streams run, and compare every stream with an undisturbed run.

    python -m tools.campaign.kill --streams 1000

A stream is right when its text, finish reasons and token counts equal those of the same request in a run in which
nothing was killed. Requests are seeded; some have two choices, some a stop string.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from camelid.errors import CamelidError
from camelid.runtime.model import LoadedModel
from camelid.runtime.runtime import Runtime
from camelid.runtime.supervisor import SupervisedEngine
from camelid.settings import ModelSettings
from camelid.types import (
    ChatRequest,
    Finished,
    FinishReason,
    Generation,
    Message,
    Sampling,
    Stopping,
    Text,
    Usage,
)

# What a request must come to: texts and ends by choice, prompt and answer tokens; or the error that it ended with.
# How many prompt tokens the cache spared may differ: a new engine begins with an empty one.
Outcome = tuple[dict[int, str], dict[int, tuple[FinishReason, str | None]], int, int] | str


@dataclass
class Report:
    """What came of a campaign. `num_hit`: streams open at kills; `pauses_s`: from a kill to the next piece of text."""

    num_streams: int
    num_equal: int = 0
    num_kills: int = 0
    num_hit: int = 0
    pauses_s: list[float] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        pauses = sorted(self.pauses_s) or [0.0]
        worst = pauses[min(len(pauses) - 1, int(0.99 * len(pauses)))]
        return (
            f"{self.num_equal} of {self.num_streams} streams equal an undisturbed run; {self.num_kills} kills hit "
            f"{self.num_hit} open streams; pause median {statistics.median(pauses):.2f} s, p99 {worst:.2f} s"
        )


class Killer:
    """Kills the engine at chosen counts of pieces of text, and measures how long it takes until there is another."""

    def __init__(self, model: LoadedModel, points: list[int], report: Report) -> None:
        assert isinstance(model.engine, SupervisedEngine)
        self._engine = model.engine
        self._points = sorted(points, reverse=True)
        self._report = report
        self._num_pieces = 0
        self._killed_at: float | None = None

    def note_piece(self) -> None:
        """Count a piece of text, and kill if it is time."""
        self._num_pieces += 1
        health = self._engine.health()
        if not health.is_fresh or health.num_restarts != self._report.num_kills:
            return  # what was on its way when the engine died
        if self._killed_at is not None:
            self._report.pauses_s.append(time.monotonic() - self._killed_at)
            self._killed_at = None
        if self._points and self._num_pieces >= self._points[-1] and self._engine.pid is not None:
            os.kill(self._engine.pid, signal.SIGKILL)
            self._killed_at = time.monotonic()
            self._report.num_kills += 1
            self._report.num_hit += health.num_open
            while self._points and self._num_pieces >= self._points[-1]:
                self._points.pop()


def requests(name: str, num_streams: int, longest: int, seed: int) -> list[ChatRequest]:
    """Return seeded requests of several kinds, for answers of up to `longest` tokens."""
    dice = random.Random(seed)
    made = []
    for stream in range(num_streams):
        question = f"What is {dice.randint(0, 99)} + {dice.randint(0, 99)}?" + " Tell me more." * dice.randint(0, 40)
        generation = Generation(
            Sampling(temperature=1.0, top_p=0.95, seed=dice.getrandbits(63)),
            Stopping(
                dice.randint(longest // 3, longest),
                stop=("zzz", "7.") if stream % 5 == 0 else (),
                ignore_eos=True,
            ),
            num_choices=1 + (stream % 4 == 0),
        )
        made.append(ChatRequest(name, (Message("user", question),), generation=generation))
    return made


async def campaign(
    num_streams: int, num_kills: int, *, name: str = "cria", longest: int = 100, seed: int = 0, concurrency: int = 16
) -> Report:
    """Run the streams undisturbed, then again under fire, and compare."""
    asked = requests(name, num_streams, longest, seed)
    report = Report(num_streams)
    runtime = Runtime(ModelSettings(threads=1))
    try:
        model = await runtime.load(name)
        pieces: list[None] = []
        expected = await _run_all(runtime, asked, concurrency, lambda: pieces.append(None))
        points = random.Random(seed).sample(range(len(pieces)), num_kills)
        killer = Killer(model, points, report)
        got = await _run_all(runtime, asked, concurrency, killer.note_piece)
    finally:
        await runtime.close()
    pairs = list(zip(got, expected, strict=True))
    report.num_equal = sum(mine == undisturbed for mine, undisturbed in pairs)
    report.different = [f"{mine!r}\n  not {undisturbed!r}" for mine, undisturbed in pairs if mine != undisturbed]
    return report


async def _run_all(
    runtime: Runtime, asked: list[ChatRequest], concurrency: int, note_piece: Callable[[], None]
) -> list[Outcome]:
    places = asyncio.Semaphore(concurrency)

    async def run(request: ChatRequest) -> Outcome:
        async with places:
            try:
                return await _outcome(runtime, request, note_piece)
            except CamelidError as error:
                return repr(error)

    return await asyncio.gather(*map(run, asked))


async def _outcome(runtime: Runtime, request: ChatRequest, note_piece: Callable[[], None]) -> Outcome:
    texts: dict[int, str] = {}
    ends: dict[int, tuple[FinishReason, str | None]] = {}
    usage = Usage(0, 0)
    async for event in runtime.chat(request):
        if isinstance(event, Text):
            texts[event.choice] = texts.get(event.choice, "") + event.text
            note_piece()
        elif isinstance(event, Finished):
            ends[event.choice] = (event.reason, event.stop)
            usage = event.usage or usage
    return texts, ends, usage.prompt_tokens, usage.completion_tokens


def main() -> int:
    """Run a campaign of the size given on the command line; 0 if every stream is right."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--model", default="cria")
    parser.add_argument("--kills", type=int, help="default: one for every ten streams")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    report = asyncio.run(
        campaign(
            arguments.streams, arguments.kills or arguments.streams // 10, name=arguments.model, seed=arguments.seed
        )
    )
    print(report)
    print(*report.different[:5], sep="\n", file=sys.stderr)
    return 0 if report.num_equal == report.num_streams else 1


if __name__ == "__main__":
    sys.exit(main())
