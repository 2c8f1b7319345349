"""Several streams at once, all as long: the shape that llama.cpp's `llama-batched-bench` measures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.subject import Needs, Subject, Timeline
from camelid.bench.workload import Case, Values, Workload, in_engine


@dataclass(frozen=True)
class Sizes:
    """Streams at once; tokens of each prompt and answer."""

    streams: tuple[int, ...] = (1, 4, 16)
    prompt_tokens: int = 64
    new_tokens: int = 24


def needs(sizes: Sizes) -> Needs:
    """Return the room for the widest case."""
    return Needs(max(sizes.streams), sizes.prompt_tokens + sizes.new_tokens + 1)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case for each number of streams."""
    return [_case(subject, sizes, streams) for streams in sizes.streams]


def _case(subject: Subject, sizes: Sizes, streams: int) -> Case:
    async def run(number: int) -> Values:
        prompts = [subject.prompt((streams, number, i), sizes.prompt_tokens) for i in range(streams)]
        lines = await asyncio.gather(*(subject.ask(prompt, sizes.new_tokens) for prompt in prompts))
        total_s = max(line.token_s[-1] for line in lines) - min(line.asked_s for line in lines)
        all_tokens = streams * (sizes.prompt_tokens + sizes.new_tokens)
        return {"decode, all streams": together(lines), "prompts and answers": all_tokens / total_s}

    middle = sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"streams": str(streams), "prompt + answer": f"{sizes.prompt_tokens} + {sizes.new_tokens}"},
        run,
        {"decode, all streams": lambda work, roofs: streams / work.decode_seconds(roofs, streams, middle)},
    )


def together(lines: Sequence[Timeline]) -> float:
    """Return the tokens a second of all streams while all of them ran: no prompt was computed beside them."""
    start = max(line.token_s[0] for line in lines)
    end = min(line.token_s[-1] for line in lines)
    inside = sum(start < at <= end for line in lines for at in line.token_s)
    return inside / (end - start)


WORKLOAD = Workload(
    "batch",
    "Several streams at once",
    {"small": Sizes(), "full": Sizes((1, 2, 4, 8, 16), 64, 24)},
    in_engine({"decode, all streams": "tok/s", "prompts and answers": "tok/s"}, needs, cases),
)
