"""Looking up a value in a table, a list or a text, short or long.

Held out: the pair of the asked key and its value (or the list that an item is picked from).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from .. import phrases
from ..conversation import MARK, Conversation, Draw, Turn, system_message, varied
from ..words import Make, maker
from .lists import pick_turn

_SAID = phrases.load("lookup")


@dataclass(frozen=True)
class Table:
    """What a context is about: keys, their values and how people ask for them."""

    what: str
    key: Make
    value: Make
    sentence: str
    ask: list[str]


_TABLES = [Table(**{**given, "key": maker(given["key"]), "value": maker(given["value"])}) for given in _SAID["table"]]

_HARDEST = next(table for table in _TABLES if table.what == "stock")  # the value stands before its key


def _lines(rng: Random, table: Table, pairs: list[tuple[str, str]]) -> str:
    style = rng.randrange(7)
    if style == 0:
        return json.dumps(dict(pairs), ensure_ascii=False)
    if style == 1:
        head = f"| {rng.choice(('name', 'key', 'item'))} | {table.what} |"
        return "\n".join((head, "| --- | --- |", *(f"| {k} | {v} |" for k, v in pairs)))
    pattern = ("{k}: {v}", "- {k}: {v}", "{k} = {v}", "{k}, {v}", "{k} -> {v}")[style - 2]
    gap = ", " if style in (2, 4) and rng.random() < 0.3 else "\n"
    return gap.join(pattern.format(k=k, v=v) for k, v in pairs)


def _story(rng: Random, table: Table, pairs: list[tuple[str, str]], filler: int) -> str:
    sentences = [table.sentence.format(k=k, v=v) for k, v in pairs]
    for _ in range(filler):
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(_SAID["filler"]))
    return rng.choice((" ", " ", "\n")).join(sentences)


def _size(rng: Random) -> tuple[int, int]:
    """Return numbers of pairs and of filler sentences: mostly short, now and then several hundred tokens."""
    roll = rng.random()
    if roll < 0.7:
        return rng.randint(2, 7), rng.choice((0, 0, 0, 3))
    if roll < 0.95:
        return rng.randint(8, 16), rng.choice((0, 0, 5))
    return rng.randint(15, 40), rng.choice((10, 20, 30))


def _pair(draw: Draw, table: Table) -> tuple[str, str]:
    drawn: tuple[str, str] = draw.pick(lambda r: (table.key(r), str(table.value(r))), lambda p: f"{p[0]}={p[1]}")
    return drawn


def _pairs(draw: Draw, table: Table, count: int) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    while len(found) < count:
        found.setdefault(*_pair(draw, table))
    return list(found.items())


def _context(draw: Draw, table: Table, pairs: list[tuple[str, str]], filler: int) -> tuple[str, bool]:
    """Return the context and whether it is told in sentences."""
    if filler or draw.chance(0.4):
        return _story(draw.rng, table, pairs, filler), True
    head: str = draw.rng.choice(_SAID["heads"]).format(w=table.what)
    return head + _lines(draw.rng, table, pairs), False


def _question(draw: Draw, table: Table, key: str, told: bool) -> str:
    asks = table.ask if told or draw.chance(0.5) else _SAID["generic"]
    return varied(draw, draw.rng.choice(asks).format(k=key), fold=False)


def _joined(draw: Draw, context: str, question: str) -> str:
    if draw.chance(0.1):
        return f"{question}\n{context}"
    return context + draw.rng.choice(("\n", "\n\n", " ", "\nQuestion: ")) + question


def _table_conversation(draw: Draw, skill: str, count: int, filler: int) -> Conversation:
    table = _HARDEST if not draw.held_out and draw.chance(0.2) else draw.rng.choice(_TABLES)
    pairs = _pairs(draw, table, count)
    context, told = _context(draw, table, pairs, filler)
    asked = draw.rng.sample(pairs, min(len(pairs), draw.rng.randint(3, 8)))
    turns = [Turn(_question(draw, table, k, told), v) for k, v in asked]
    if draw.chance(0.15):
        return Conversation(skill, tuple(turns), context)
    first = Turn(_joined(draw, context, turns[0].message), turns[0].answer)
    return Conversation(skill, (first, *turns[1:]), system_message(draw, 0.2))


def _drill(draw: Draw) -> Turn:
    """Draw a table that is told again in another order, of which only the values are learned."""
    table = draw.rng.choice(_TABLES)
    pairs = _pairs(draw, table, draw.rng.randint(2, 12))
    context, _ = _context(draw, table, pairs, 0)
    draw.rng.shuffle(pairs)
    pattern = draw.rng.choice(("{k}: {v}", "{k} = {v}", "{k}, {v}", "{k} -> {v}"))
    return Turn(context, "\n".join(pattern.format(k=k, v=MARK + v + MARK) for k, v in pairs), drill=True)


def conversation(draw: Draw) -> Conversation:
    """Draw a conversation about one table or text, with several questions on the same context."""
    if not draw.held_out and draw.chance(0.25):
        return Conversation("lookup", (_drill(draw),))
    if draw.chance(0.1 if draw.held_out else 0.3):  # harder than a table, so it is learned more often than asked
        turns = tuple(pick_turn(draw) for _ in range(draw.rng.randint(1, 2)))
        return Conversation("lookup", turns, system_message(draw))
    return _table_conversation(draw, "lookup", *_size(draw.rng))


def long_conversation(draw: Draw) -> Conversation:
    """Draw a conversation about a text of some 100 to 900 tokens."""
    return _table_conversation(draw, "long lookup", draw.rng.randint(8, 40), draw.rng.randint(0, 30))
