"""W1: one stream. How fast tokens come, and what a long context costs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.subject import Needs, Subject
from camelid.bench.workload import Case, Values, Workload, in_engine


@dataclass(frozen=True)
class Sizes:
    """Tokens: of context that stands before the prompt, of the prompt, of the answer."""

    depths: tuple[int, ...] = (0,)
    prompt_tokens: int = 128
    new_tokens: int = 48


def needs(sizes: Sizes) -> Needs:
    """Return the room for the deepest case."""
    return Needs(1, max(sizes.depths) + sizes.prompt_tokens + sizes.new_tokens)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case for each depth. Rounds share what stands before the prompt, so it is computed once."""
    return [_case(subject, sizes, depth) for depth in sizes.depths]


def _case(subject: Subject, sizes: Sizes, depth: int) -> Case:
    async def run(number: int) -> Values:
        prompt = subject.prompt(("before", depth), depth) + subject.prompt((depth, number), sizes.prompt_tokens)
        line = await subject.ask(prompt, sizes.new_tokens)
        return {"decode": line.rate, "longest gap": max(line.gaps_s) * 1e3}

    middle = depth + sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"depth": f"{depth:,}", "prompt + answer": f"{sizes.prompt_tokens} + {sizes.new_tokens}"},
        run,
        {"decode": lambda work, roofs: 1 / work.decode_seconds(roofs, 1, middle)},
    )


WORKLOAD = Workload(
    "decode",
    "W1: one stream",
    {"small": Sizes(), "full": Sizes((0, 4096, 16384, 32768), 128, 256)},
    in_engine({"decode": "tok/s", "longest gap": "ms"}, needs, cases),
)
