"""W2: prompts. How fast they are computed, and when the first token comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.subject import Needs, Subject
from camelid.bench.workload import Case, Values, Workload, in_engine


@dataclass(frozen=True)
class Sizes:
    """Tokens of the prompts."""

    prompt_tokens: tuple[int, ...] = (512,)


def needs(sizes: Sizes) -> Needs:
    """Return the room for the longest prompt."""
    return Needs(1, max(sizes.prompt_tokens) + 1)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case for each length; every round has a prompt that was never seen."""
    return [_case(subject, length) for length in sizes.prompt_tokens]


def _case(subject: Subject, length: int) -> Case:
    async def run(number: int) -> Values:
        line = await subject.ask(subject.prompt((length, number), length), 1)
        return {"prefill": length / line.first_s, "first token": line.first_s}

    return Case(
        {"prompt": f"{length:,}"},
        run,
        {"prefill": lambda work, roofs: length / work.prefill_seconds(roofs, length)},
    )


WORKLOAD = Workload(
    "prefill",
    "W2: prompts",
    {"small": Sizes(), "full": Sizes((512, 4096, 16384, 32768))},
    in_engine({"prefill": "tok/s", "first token": "s"}, needs, cases),
)
