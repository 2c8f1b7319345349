"""The raw material of the generated data: makers of words, names, codes and numbers, called by their kind.

It lives apart so that every skill draws from the same pool. It knows nothing about skills or chat.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from . import phrases

Make = Callable[[Random], Any]

LISTS: dict[str, list[str]] = phrases.load("words")
_ONSETS = (*"bcdfghjklmnprstvwz", "br", "cl", "dr", "fl", "gr", "pl", "st", "tr", "sh", "ch")
_VOWELS = (*"aeiouaeiou", "ai", "ea", "oo")
_CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "k", "x", "nd", "st"]
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def made_up(rng: Random) -> str:
    """Return a word that no list holds, of one or two syllables."""
    count = rng.choice((1, 2, 2))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))


def number(rng: Random) -> str:
    """Return a random number of 1 to 4 digits without leading zeros."""
    return str(rng.randrange(10 ** rng.randint(1, 4)))


def code(rng: Random) -> str:
    """Return a short code such as `QX-482`."""
    letters = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(1, 3)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 4)))
    return rng.choice((f"{letters}-{digits}", f"{letters}{digits}", f"{digits}{letters}"))


def word(rng: Random) -> str:
    """Return a common noun, or now and then a made-up word."""
    return made_up(rng) if rng.random() < 0.15 else rng.choice(LISTS["nouns"])


def name(rng: Random) -> str:
    """Return a first name, or now and then a made-up one."""
    return made_up(rng).capitalize() if rng.random() < 0.15 else rng.choice(LISTS["names"])


def city(rng: Random) -> str:
    """Return a city, or now and then a made-up one."""
    return made_up(rng).capitalize() if rng.random() < 0.15 else rng.choice(LISTS["cities"])


def title(rng: Random) -> str:
    """Return one to three words."""
    return " ".join(word(rng) for _ in range(rng.randint(1, 3)))


def symbol(rng: Random) -> str:
    """Return a stock symbol."""
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(2, 4)))


_MAKERS: dict[str, Make] = {
    "made up": made_up,
    "number": number,
    "code": code,
    "word": word,
    "name": name,
    "city": city,
    "title": title,
    "symbol": symbol,
    "time": lambda rng: f"{rng.randint(0, 23)}:{rng.randint(10, 59)}",
    "two words": lambda rng: f"{word(rng)} {word(rng)}",
    "yes or no": lambda rng: rng.random() < 0.5,
    "some words": lambda rng: [word(rng) for _ in range(rng.randint(1, 3))],
    "some names": lambda rng: [name(rng) for _ in range(rng.randint(1, 3))],
}


def maker(kind: str) -> Make:
    """Return the maker of a kind: its name above, the name of a list of words, `a|b|c`, or `low..high` (an integer)."""
    if kind in _MAKERS:
        return _MAKERS[kind]
    if ".." in kind:
        low, high = map(int, kind.split(".."))
        return lambda rng: rng.randint(low, high)
    choices = LISTS[kind] if kind in LISTS else kind.split("|")
    return lambda rng: rng.choice(choices)


def is_integer(kind: str) -> bool:
    """Say whether a kind's values are integers."""
    return ".." in kind


def distinct(rng: Random, count: int, make: Make) -> list[str]:
    """Return `count` different strings drawn with `make`."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[make(rng)] = None
    return list(found)
