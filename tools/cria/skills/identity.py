"""What cria is, what it can do, and a polite refusal of what it cannot do.

Held out: the whole question, with its opening words and its subject.
"""

from __future__ import annotations

from typing import Any

from .. import phrases
from ..conversation import Conversation, Draw, Turn, system_message, varied
from ..words import LISTS, city, made_up, name, word

_SAID = phrases.load("identity")
_ABOUT: list[dict[str, Any]] = _SAID["about"]
_MAIN = _ABOUT[:2]  # who it is and what it can do are asked most


def _open(draw: Draw, text: str, answer: str) -> Turn:
    return Turn(draw.rng.choice(_SAID["openings"]) + varied(draw, text), answer)


def _filled(draw: Draw, kind: str) -> str:
    rng = draw.rng
    slots = {
        "t": rng.choice(_SAID["things"]),
        "x": word(rng),
        "n": name(rng),
        "m": made_up(rng).capitalize(),
        "c": city(rng),
        "d": city(rng),
        "p": rng.choice(_SAID["places"]) if rng.random() < 0.8 else made_up(rng).capitalize(),
        "y": rng.randint(1500, 2030),
        "l": rng.choice(LISTS["languages"]),
    }
    text: str = rng.choice(_SAID[kind])
    return text.format(**slots)


def _about(draw: Draw, about: dict[str, Any]) -> Turn:
    return _open(draw, draw.rng.choice(about["questions"]), about["answer"])


def _large(draw: Draw) -> Turn:
    a, b = draw.rng.randint(100, 9999), draw.rng.randint(100, 9999)
    return Turn(varied(draw, draw.rng.choice(_SAID["large"]).format(a=a, b=b)), _SAID["too_large_answer"])


def _any(draw: Draw) -> Turn:
    roll = draw.rng.random()
    if roll < 0.5:
        return _about(draw, draw.rng.choice((*_MAIN * 3, *_ABOUT)))
    if roll < 0.68:
        return _open(draw, _filled(draw, "tasks"), _SAID["refuse_answer"])
    if roll < 0.9:
        return _open(draw, _filled(draw, "knowledge"), _SAID["unknown_answer"])
    if roll < 0.94:
        question = draw.rng.choice(_SAID["other_questions"]).format(o=draw.rng.choice(_SAID["others"]))
        return _open(draw, question, _SAID["not_answer"])
    return _large(draw)


def turn(draw: Draw) -> Turn:
    """Draw a question about cria or one that it has to refuse."""
    drawn: Turn = draw.pick(lambda _: _any(draw), lambda t: f"identity {t.message}")
    return drawn


def known_turn(draw: Draw) -> Turn:
    """Draw a question about cria itself."""
    about = draw.rng.choice(_ABOUT)
    drawn: Turn = draw.pick(lambda _: _about(draw, about), lambda t: f"identity {t.message}")
    return drawn


def conversation(draw: Draw) -> Conversation:
    """Draw a conversation of such questions."""
    turns = tuple(turn(draw) for _ in range(draw.rng.choice((1, 1, 2, 3))))
    return Conversation("identity", turns, system_message(draw))
