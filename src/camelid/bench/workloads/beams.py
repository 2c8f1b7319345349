"""Searches with beams, beside as many plain answers to the same prompt: what keeping several beginnings costs.

The prompt is computed before. Both cases go from there to their last token, so that they compute the same number of
rows; the search has its candidates, its choices and its copies of pages on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.subject import Needs, Subject
from camelid.bench.workload import Case, Values, Workload, in_engine
from camelid.rules import Beams
from camelid.types import Sampling


@dataclass(frozen=True)
class Sizes:
    """Beams of a search; tokens of the prompt and of each answer."""

    beams: tuple[int, ...] = (4,)
    prompt_tokens: int = 64
    new_tokens: int = 24


def needs(sizes: Sizes) -> Needs:
    """Return the room for the widest search."""
    return Needs(max(sizes.beams), sizes.prompt_tokens + sizes.new_tokens + 2)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return, for each number of beams, a plain batch of as many answers, a search, and one that draws."""
    kinds = {"plain batch": None, "search": False, "search that draws": True}
    return [_case(subject, sizes, beams, name, samples) for beams in sizes.beams for name, samples in kinds.items()]


def _case(subject: Subject, sizes: Sizes, beams: int, name: str, samples: bool | None) -> Case:
    async def run(number: int) -> Values:
        prompt = subject.prompt((beams, name, number), sizes.prompt_tokens)
        await subject.ask(prompt, 1)
        line = await subject.ask(
            (*prompt, 1),
            sizes.new_tokens,
            num_choices=beams if samples is None else 1,
            sampling=Sampling(seed=number),
            beams=None if samples is None else Beams(beams, samples=samples),
        )
        return {"all beginnings": beams * sizes.new_tokens / line.total_s}

    middle = sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"work": name, "beams": str(beams), "prompt + answer": f"{sizes.prompt_tokens} + {sizes.new_tokens}"},
        run,
        {"all beginnings": lambda work, roofs: beams / work.decode_seconds(roofs, beams, middle)},
    )


WORKLOAD = Workload(
    "beams",
    "Searches with beams",
    {"small": Sizes(), "full": Sizes((2, 4, 8), 512, 128)},
    in_engine({"all beginnings": "tok/s"}, needs, cases, "Plain answers are drawn at temperature 1"),
)
