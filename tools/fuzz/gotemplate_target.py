"""Go templates for the fuzz campaign: made by a grammar, mutated, and rendered on hostile data within small limits."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path

from camelid.errors import TemplateError
from camelid.text.gotemplate import Budget, Limits, parse, render
from camelid.text.gotemplate.values import JsonMap
from camelid.text.prompt import choose_marks

from ..gotemplate.grammar import Writer
from .mutation import Field, join, mutate

REFUSALS = (TemplateError,)
SECRET = "☃"  # stands for what spells control tokens: only the data has it
LIMITS = Limits(steps=20_000, output=20_000)
PIECES = (
    "{{",
    "}}",
    "{{-",
    "-}}",
    "/*",
    "*/",
    "end",
    "range 99999999",
    "printf `%1000000d` 1",
    "$x := ",
    "((((",
    "\xff",
)
TODAY = date(2026, 1, 1)
_TEXT = f"a{SECRET}<b> é\n"


def make(chance: random.Random) -> bytes:
    """Return a template: as it was made, cut into words and mutated, or with pieces of the language thrown in."""
    text = Writer(chance).template()
    way = chance.random()
    if way < 0.3:
        return text.encode()
    words = [Field("text", word.encode()) for word in _words(text)]
    if way < 0.6:
        for _ in range(chance.choice((1, 1, 3))):
            words.insert(chance.randrange(len(words) + 1), Field("text", chance.choice(PIECES).encode()))
        return join(words)
    return mutate(words or [Field("text", b"{{")], chance)


def check(path: Path) -> None:
    """Render a template twice; both must agree, and set nothing free that the data has. Raises AssertionError."""
    templates = parse(path.read_bytes().decode("utf-8", errors="replace"))
    marks = choose_marks(SECRET, [SECRET])
    text = marks.mark(_TEXT)
    inner = {"S": text, "N": 4, "L": [{"S": text}, {"S": "y", "D": {"k": 1.5}}], "z": None, marks.mark(SECRET): [True]}
    data = {"S": text, "T": "tool", "N": 3, "M": 10, "F": 0.5, "B": True, "L": [text, 2], "E": [], "D": JsonMap(inner)}
    first, second = (
        render(templates, {**data, "X": None}, budget=Budget(LIMITS, len(text)), marks=marks, today=TODAY)
        for _ in range(2)
    )
    assert first == second
    assert SECRET not in first, "text from outside was set free"
    first.encode()


def _words(text: str) -> list[str]:
    words, start = [], 0
    for at, character in enumerate(text):
        if character in " {}()|":
            words += [text[start:at], character]
            start = at + 1
    return [word for word in (*words, text[start:]) if word]
