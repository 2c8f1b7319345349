"""The mixture: which skills there are, and how a conversation is drawn from them.

It knows nothing about tokens or models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random

from .conversation import Conversation, Draw, OneSidedError, Turn, system_message
from .skills import arithmetic, greeting, identity, lists, lookup, schema, tools

SKILLS: dict[str, Callable[[Draw], Conversation]] = {
    "arithmetic": arithmetic.conversation,
    "lookup": lookup.conversation,
    "long lookup": lookup.long_conversation,
    "copying": lists.copying,
    "sorting": lists.sorting,
    "greeting": greeting.conversation,
    "tools": tools.conversation,
    "schema": schema.conversation,
    "identity": identity.conversation,
}
_MIXED: tuple[Callable[[Draw], Turn], ...] = (
    arithmetic.turn, lists.copy_turn, lists.sort_turn, lists.pick_turn, greeting.turn, identity.turn,
)  # fmt: skip
MIXED = "mixed"


def mixed(draw: Draw) -> Conversation:
    """Draw a conversation whose turns come from different skills."""
    turns = tuple(draw.rng.choice(_MIXED)(draw) for _ in range(draw.rng.randint(2, 5)))
    return Conversation(MIXED, turns, system_message(draw))


def conversations(seed: int, weights: Mapping[str, float]) -> Iterator[Conversation]:
    """Yield training conversations without end, skills in proportion to `weights` (read anew each time)."""
    draw = Draw(Random(seed), held_out=False)
    while True:
        skill = draw.rng.choices(list(weights), list(weights.values()))[0]
        yield drawn(draw, mixed if skill == MIXED else SKILLS[skill])


def drawn(draw: Draw, make: Callable[[Draw], Conversation]) -> Conversation:
    """Draw a conversation, again where its side of the split is empty."""
    while True:
        try:
            return make(draw)
        except OneSidedError:
            continue


def held_out(skill: str, count: int, seed: int = 0) -> list[Conversation]:
    """Return `count` conversations whose combinations are never trained on."""
    draw = Draw(Random(f"{skill} {seed}"), held_out=True)
    return [drawn(draw, SKILLS[skill]) for _ in range(count)]
