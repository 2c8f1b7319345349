"""Copying a text, sorting short lists, and picking out of them.

Held out: the copied text, the sorted set, the list that is picked from.
"""

from __future__ import annotations

from random import Random

from .. import phrases
from ..conversation import Conversation, Draw, Turn, system_message, varied
from ..words import LISTS, Make, city, code, distinct, made_up, name, number, word

_SAID = phrases.load("lists")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_PRINTABLE = [chr(c) for c in range(33, 127)] + list("äöüßéèàçñõãêíóúñ€–")


def _piece(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.45:
        return word(rng)
    if roll < 0.6:
        return made_up(rng)
    makers: tuple[Make, ...] = (name, city, code, number)
    if roll < 0.96:
        return str(rng.choice(makers)(rng))
    return "".join(rng.choice(_PRINTABLE) for _ in range(rng.randint(2, 6)))


def _text(rng: Random) -> str:
    gap = rng.choice((" ", " ", " ", ", ", "-", " / "))
    text = gap.join(_piece(rng) for _ in range(rng.choice((1, 2, 3, 3, 4, 5, 6, 8, 12))))
    return text.upper() if rng.random() < 0.05 else text


def copy_turn(draw: Draw) -> Turn:
    """Draw a text that is to be repeated."""
    text = draw.pick(_text, lambda t: f"copy {t}")
    return Turn(draw.rng.choice(_SAID["copy"]).format(s=text), text)


def _gap(draw: Draw) -> str:
    return draw.rng.choice((", ", ", ", ", ", " ", "; ", "\n"))


def sort_turn(draw: Draw) -> Turn:
    """Draw numbers or words that are to be sorted; the answer is joined by commas."""
    if draw.chance(0.35):
        return _sort_words(draw)
    size = draw.rng.choice((2, 3, 3, 4, 4, 5, 5, 6, 7))
    values: list[int] = draw.pick(lambda r: r.sample(range(100), size), lambda v: f"sort {sorted(v)}")
    return _ask_of_numbers(draw, values)


def _ask_of_numbers(draw: Draw, values: list[int]) -> Turn:
    given, roll = _gap(draw).join(map(str, values)), draw.rng.random()
    if roll < 0.75:
        down = roll >= 0.55
        ask = draw.rng.choice(_SAID["sort_down" if down else "sort"])
        return Turn(varied(draw, ask.format(s=given)), ", ".join(map(str, sorted(values, reverse=down))))
    kind, pick = draw.rng.choice((("largest", max), ("smallest", min), ("biggest", max)))
    return Turn(varied(draw, draw.rng.choice(_SAID["extreme"]).format(k=kind, s=given)), str(pick(values)))


def _first_letters(rng: Random) -> list[str]:
    """Words that differ in their first letter: a tiny model does not see the letters inside a token."""
    pool, size = LISTS[rng.choice(("nouns", "nouns", "names", "cities"))], rng.choice((2, 3, 3, 4, 4, 5, 6))
    chosen: dict[str, str] = {}
    while len(chosen) < size:
        drawn = rng.choice(pool)
        chosen.setdefault(drawn[0], drawn)
    return list(chosen.values())


def _sort_words(draw: Draw) -> Turn:
    values: list[str] = draw.pick(_first_letters, lambda v: f"sort {sorted(v)}")
    text = draw.rng.choice(_SAID["sort_words"]).format(s=_gap(draw).join(values))
    return Turn(varied(draw, text, fold=False), ", ".join(sorted(values)))


def pick_turn(draw: Draw) -> Turn:
    """Draw a list and the place of the wanted item."""
    size = draw.rng.randint(3, 6)
    items: list[str] = draw.pick(lambda r: distinct(r, size, word), lambda v: f"pick {v}")
    place = draw.rng.randrange(size)
    called = "last" if place == size - 1 and draw.chance(0.7) else _ORDINALS[place]
    return Turn(draw.rng.choice(_SAID["pick"]).format(s=_gap(draw).join(items), k=called), items[place])


def copying(draw: Draw) -> Conversation:
    """Draw a conversation of texts to repeat."""
    turns = tuple(copy_turn(draw) for _ in range(draw.rng.choice((1, 1, 2, 3))))
    return Conversation("copying", turns, system_message(draw))


def sorting(draw: Draw) -> Conversation:
    """Draw a conversation of lists to sort."""
    turns = tuple(sort_turn(draw) for _ in range(draw.rng.choice((1, 1, 2, 3))))
    return Conversation("sorting", turns, system_message(draw))
