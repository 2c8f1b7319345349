"""The words all skills share: a turn, a conversation, the held-out split and the check of an answer.

It knows nothing about any one skill, about tokens or about models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from . import phrases

HELD_OUT_SHARE = 10  # one combination in ten is never trained on

MARK = "\0"  # stands before and after what is learned of a drill

Message = dict[str, Any]


class OneSidedError(Exception):
    """A draw has so few combinations that none lies on the wanted side; draw something else."""


@dataclass(frozen=True)
class Turn:
    """One message to the model and its true answer."""

    message: str
    answer: str
    role: str = "user"  # `tool` where the message is a tool's result
    call: bool = False  # the answer is a tool call
    drill: bool = False  # only what stands between marks is learned


@dataclass(frozen=True)
class Conversation:
    """Turns of one skill, with an optional system message and tool definitions."""

    skill: str
    turns: tuple[Turn, ...]
    system: str | None = None
    tools: tuple[dict[str, Any], ...] = field(default=())


@dataclass(frozen=True)
class Draw:
    """A random generator that is bound to one side of the split."""

    rng: Random
    held_out: bool

    def pick(self, make: Callable[[Random], Any], key: Callable[[Any], str]) -> Any:
        """Draw with `make` until the combination's key lies on this side of the split."""
        for _ in range(300):
            value = make(self.rng)
            if is_held_out(key(value)) == self.held_out:
                return value
        raise OneSidedError("every combination drawn lies on the other side of the split")

    def chance(self, share: float) -> bool:
        """Return True with probability `share`."""
        return self.rng.random() < share


def is_held_out(key: str) -> bool:
    """Say on which side of the split a combination lies; depends on nothing but the key."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "little") % HELD_OUT_SHARE == 0


def is_right(turn: Turn, answer: str) -> bool:
    """Check an answer: equal JSON values where the true answer is a JSON object, else equal text."""
    wanted = _json_object(turn.answer)
    return answer.strip() == turn.answer if wanted is None else _json_object(answer) == wanted


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def to_messages(conversation: Conversation, turns: int | None = None) -> list[Message]:
    """Return chat messages; with `turns`, only so many turns, the last one without its answer."""
    messages: list[Message] = []
    if conversation.system is not None:
        messages.append({"role": "system", "content": conversation.system})
    count = len(conversation.turns) if turns is None else turns
    for index, turn in enumerate(conversation.turns[:count]):
        messages.append({"role": turn.role, "content": turn.message})
        if turns is None or index < count - 1:
            messages.append(_answer_message(turn))
    return messages


def _answer_message(turn: Turn) -> Message:
    if turn.drill:
        return {"role": "assistant", "content": turn.answer, "drill": True}
    if not turn.call:
        return {"role": "assistant", "content": turn.answer}
    called = json.loads(turn.answer)
    function = {"name": called["name"], "arguments": called["parameters"]}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


_SYSTEM: list[str] = phrases.load("system")["system"]


def system_message(draw: Draw, share: float = 0.3) -> str | None:
    """Return a system message that changes nothing, or none."""
    return draw.rng.choice(_SYSTEM) if draw.chance(share) else None


def varied(draw: Draw, text: str, fold: bool = True) -> str:
    """Vary a question as people do: case (where `fold` allows it), final mark, a polite word."""
    roll = draw.rng.random()
    if fold and roll < 0.15:
        text = text.lower()
    elif fold and roll < 0.19:
        text = text.upper()
    if text[-1] in "?." and draw.chance(0.15):
        text = text[:-1]
    if draw.chance(0.06):
        text = draw.rng.choice(("Please ", "please ", "Hi, ", "Now: ", "OK, ", "And ", "Hey! ")) + text
    return text
