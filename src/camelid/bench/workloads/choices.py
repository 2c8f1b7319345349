"""W5: several answers to one prompt. The prompt is computed once; the answers run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.subject import Needs, Subject
from camelid.bench.workload import Case, Values, Workload, in_engine
from camelid.types import Sampling


@dataclass(frozen=True)
class Sizes:
    """Answers to a prompt; tokens of the prompt and of each answer."""

    choices: tuple[int, ...] = (1, 4)
    prompt_tokens: int = 128
    new_tokens: int = 24


def needs(sizes: Sizes) -> Needs:
    """Return the room for all answers."""
    return Needs(max(sizes.choices), sizes.prompt_tokens + sizes.new_tokens + 1)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case for each number of answers."""
    return [_case(subject, sizes, choices) for choices in sizes.choices]


def _case(subject: Subject, sizes: Sizes, choices: int) -> Case:
    async def run(number: int) -> Values:
        prompt = subject.prompt((choices, number), sizes.prompt_tokens)
        sampling = Sampling(temperature=1.0, seed=number)
        line = await subject.ask(prompt, sizes.new_tokens, num_choices=choices, sampling=sampling)
        return {
            "answers": (choices * (sizes.new_tokens - 1)) / (line.token_s[-1] - line.token_s[choices - 1]),
            "first token": line.first_s,
        }

    middle = sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"answers": str(choices), "prompt + answer": f"{sizes.prompt_tokens} + {sizes.new_tokens}"},
        run,
        {"answers": lambda work, roofs: choices / work.decode_seconds(roofs, choices, middle)},
    )


WORKLOAD = Workload(
    "choices",
    "W5: several answers to one prompt",
    {"small": Sizes(), "full": Sizes((1, 2, 4, 8), 512, 128)},
    in_engine({"answers": "tok/s", "first token": "s"}, needs, cases, "Drawn at temperature 1"),
)
