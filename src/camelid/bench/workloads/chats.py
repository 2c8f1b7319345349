"""W3: people who chat at once. They share a system prompt, and each asks again as soon as the answer is there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from camelid.bench.result import percentile
from camelid.bench.roofs import Roofs
from camelid.bench.subject import Needs, Subject, Timeline
from camelid.bench.work import Work
from camelid.bench.workload import Case, Values, Workload, in_engine


@dataclass(frozen=True)
class Sizes:
    """Users at once; how often each asks; tokens that all prompts begin with, of a question, of an answer."""

    users: tuple[int, ...] = (4,)
    turns: int = 1
    shared_tokens: int = 256
    question_tokens: tuple[int, ...] = (25, 100)  # from, to
    answer_tokens: tuple[int, ...] = (15, 30)


def needs(sizes: Sizes) -> Needs:
    """Return the room for all users."""
    return Needs(max(sizes.users), sizes.shared_tokens + max(sizes.question_tokens) + max(sizes.answer_tokens) + 1)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case for each number of users, and one for a single chat before and after the prompt is known."""
    return [_alone(subject, sizes), *(_case(subject, sizes, users) for users in sizes.users)]


def _alone(subject: Subject, sizes: Sizes) -> Case:
    async def run(number: int) -> Values:
        shared = subject.prompt(("alone", number), sizes.shared_tokens)
        question = min(sizes.question_tokens)
        cold = await subject.ask(shared + subject.prompt((number, 0), question), 1)
        warm = await subject.ask(shared + subject.prompt((number, 1), question), 1)
        return {"cold first token": cold.first_s, "first token, median": warm.first_s}

    tokens = sizes.shared_tokens + min(sizes.question_tokens)
    return Case(
        {"users": "1, idle server"},
        run,
        {
            "cold first token": lambda work, roofs: work.prefill_seconds(roofs, tokens),
            "first token, median": lambda work, roofs: work.prompt_seconds(roofs, tokens, sizes.shared_tokens),
        },
    )


def _case(subject: Subject, sizes: Sizes, users: int) -> Case:
    async def run(number: int) -> Values:
        shared = subject.prompt(("shared", users, number), sizes.shared_tokens)
        drawn = random.Random(number)
        cold = await subject.ask(shared, 1)
        plans = [[_turn(subject, sizes, shared, drawn) for _ in range(sizes.turns)] for _ in range(users)]
        lines = [line for turns in await asyncio.gather(*(_user(subject, plan) for plan in plans)) for line in turns]
        return {"cold first token": cold.first_s, **summed_up(lines)}

    prompt = sizes.shared_tokens + round(mean(sizes.question_tokens))
    answer = round(mean(sizes.answer_tokens))

    def most(work: Work, roofs: Roofs) -> float:
        seconds = work.crowd_seconds(roofs, users, sizes.turns, prompt, sizes.shared_tokens, answer)
        return users * sizes.turns * answer / seconds

    return Case({"users": str(users)}, run, {"answers": most})


def summed_up(lines: Sequence[Timeline]) -> Values:
    """Return what a crowd saw: answers' tokens a second in total, times to the first token, gaps."""
    seconds = max(line.token_s[-1] for line in lines) - min(line.asked_s for line in lines)
    firsts = [line.first_s for line in lines]
    gaps = [gap for line in lines for gap in line.gaps_s]
    return {
        "answers": sum(len(line.token_s) for line in lines) / seconds,
        "first token, median": percentile(firsts, 50),
        "first token, p99": percentile(firsts, 99),
        "gap, median": percentile(gaps, 50) * 1e3,
        "gap, p99": percentile(gaps, 99) * 1e3,
    }


async def _user(subject: Subject, plan: Sequence[tuple[tuple[int, ...], int]]) -> list[Timeline]:
    return [await subject.ask(prompt, answer) for prompt, answer in plan]


def _turn(subject: Subject, sizes: Sizes, shared: tuple[int, ...], drawn: random.Random) -> tuple[tuple[int, ...], int]:
    question = drawn.randint(min(sizes.question_tokens), max(sizes.question_tokens))
    answer = drawn.randint(min(sizes.answer_tokens), max(sizes.answer_tokens))
    return shared + subject.prompt(drawn.random(), question), answer


UNITS = {
    "cold first token": "s",
    "answers": "tok/s",
    "first token, median": "s",
    "first token, p99": "s",
    "gap, median": "ms",
    "gap, p99": "ms",
}

WORKLOAD = Workload(
    "chats",
    "W3: chats with a shared system prompt",
    {"small": Sizes(), "full": Sizes((16, 64, 256), 2, 1024, (100, 400), (150, 300))},
    in_engine(
        UNITS,
        needs,
        cases,
        "Cold: the shared prompt is computed first, alone; all others find it in the prefix cache",
    ),
)
