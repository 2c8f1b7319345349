"""Several streams at once, all as long: the shape that llama.cpp's `llama-batched-bench` measures.

The prompts are computed first, all together. Then every stream starts from the cached one, so that they decode side by
side from the first token to the last.
"""

from __future__ import annotations

import asyncio
import time
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
    return Needs(max(sizes.streams), sizes.prompt_tokens + sizes.new_tokens + 2)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case for each number of streams."""
    return [_case(subject, sizes, streams) for streams in sizes.streams]


def _case(subject: Subject, sizes: Sizes, streams: int) -> Case:
    async def run(number: int) -> Values:
        prompts = [subject.prompt((streams, number, i), sizes.prompt_tokens) for i in range(streams)]
        start_s = time.perf_counter()
        await asyncio.gather(*(subject.ask(prompt, 1) for prompt in prompts))
        prompt_s = time.perf_counter() - start_s
        lines = await asyncio.gather(*(subject.ask((*prompt, 1), sizes.new_tokens) for prompt in prompts))
        return {"decode, all streams": together(lines), "prompts": streams * sizes.prompt_tokens / prompt_s}

    middle = sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"streams": str(streams), "prompt + answer": f"{sizes.prompt_tokens} + {sizes.new_tokens}"},
        run,
        {
            "decode, all streams": lambda work, roofs: streams / work.decode_seconds(roofs, streams, middle),
            "prompts": lambda work, roofs: sizes.prompt_tokens / work.prefill_seconds(roofs, sizes.prompt_tokens),
        },
    )


def together(lines: Sequence[Timeline]) -> float:
    """Return the tokens a second of all streams, from when each had its first to the end."""
    start, end = max(line.token_s[0] for line in lines), max(line.token_s[-1] for line in lines)
    return sum(at > start for line in lines for at in line.token_s) / (end - start)


WORKLOAD = Workload(
    "batch",
    "Several streams at once",
    {"small": Sizes(), "full": Sizes((1, 2, 4, 8, 16), 64, 24)},
    in_engine({"decode, all streams": "tok/s", "prompts": "tok/s"}, needs, cases),
)
