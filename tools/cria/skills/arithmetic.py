"""Sums and differences of numbers up to 99 and products up to 12 x 12.

Held out: ordered operand pairs of sums and differences. Products up to 12 x 12 are a table that is learned by heart, as
people do: none of them is held out, and none is scored.
"""

from __future__ import annotations

from random import Random

from .. import phrases
from ..conversation import MARK, Conversation, Draw, Turn, system_message, varied
from ..words import LISTS

Problem = tuple[int, str, int]

PRODUCTS = 0.25  # share of the problems that are learned

_SAID = phrases.load("arithmetic")
_HEADS = ("Compute: ", "Solve: ", "Calculate each: ", "Compute these: ")


def answer_to(problem: Problem) -> int:
    """Return the true value."""
    a, operator, b = problem
    return a + b if operator == "+" else a - b if operator == "-" else a * b


def _product(rng: Random) -> Problem:
    return rng.randint(0, 12), "*", rng.randint(0, 12)


def _sum(rng: Random) -> Problem:
    operator = rng.choice("+++--")
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    if operator == "-" and a < b and rng.random() < 0.7:
        a, b = b, a
    return a, operator, b


def key(problem: Problem) -> str:
    """Name the combination that the split decides on."""
    return "{}{}{}".format(*problem)


def problem(draw: Draw) -> Problem:
    """Draw a sum or a difference of this side of the split, or a product to be learned."""
    if not draw.held_out and draw.chance(PRODUCTS):
        return _product(draw.rng)
    drawn: Problem = draw.pick(_sum, key)
    return drawn


def _story(draw: Draw, drawn: Problem) -> Turn:
    a, operator, b = drawn
    thing, other = draw.rng.sample(LISTS["nouns"], 2)
    text = draw.rng.choice(_SAID["story"][operator])
    return Turn(text.format(a=a, b=b, n=draw.rng.choice(LISTS["names"]), t=thing, u=other), str(answer_to(drawn)))


def turn(draw: Draw) -> Turn:
    """Draw one question with one number as its answer."""
    a, operator, b = drawn = problem(draw)
    if answer_to(drawn) >= 0 and draw.chance(0.08):
        return _story(draw, drawn)
    if draw.chance(0.06):
        sum_ = f"{a} {operator} {b}"
        return Turn(f"Write {sum_} as an equation with its result.", f"{sum_} = {answer_to(drawn)}")
    text = draw.rng.choice(_SAID["ask"][operator]).format(a=a, b=b)
    return Turn(varied(draw, text), str(answer_to(drawn)))


def several(draw: Draw) -> Turn:
    """Draw one message with several problems, answered as equations."""
    drawn = [problem(draw) for _ in range(draw.rng.randint(3, 8))]
    gap, space = draw.rng.choice(("; ", ", ", "\n")), draw.rng.choice((" ", ""))
    sums = [f"{a}{space}{operator}{space}{b}" for a, operator, b in drawn]
    answers = [f"{text}{space}={space}{answer_to(p)}" for text, p in zip(sums, drawn, strict=True)]
    return Turn(draw.rng.choice(_HEADS) + gap.join(sums), gap.join(answers))


def drill(draw: Draw) -> Turn:
    """Draw a row of equations of which only the results are learned: most results for the fewest tokens."""
    drawn = [p for p in (problem(draw) for _ in range(draw.rng.randint(8, 20))) if answer_to(p) >= 0]
    gap, space = draw.rng.choice(("; ", ", ", "\n")), draw.rng.choice((" ", " ", ""))
    rows = [f"{a}{space}{o}{space}{b}{space}={space}{MARK}{answer_to((a, o, b))}{MARK}" for a, o, b in drawn]
    return Turn("Give examples of sums.", gap.join(rows), drill=True)


def conversation(draw: Draw) -> Conversation:
    """Draw a conversation about small sums."""
    roll = draw.rng.random()
    if roll < 0.4 and not draw.held_out:
        return Conversation("arithmetic", (drill(draw),))
    if roll > 0.8:
        turns: tuple[Turn, ...] = (several(draw),)
    else:
        turns = tuple(turn(draw) for _ in range(draw.rng.choice((1, 1, 2, 4, 6))))
    return Conversation("arithmetic", turns, system_message(draw))
