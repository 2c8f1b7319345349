"""Modelfiles for the fuzz campaign: written line by line, mutated, read, written again and read once more."""

from __future__ import annotations

import random
from pathlib import Path

from camelid.errors import BadModelfile
from camelid.store.modelfile import FLOATS, INTEGERS, parse_modelfile

from .mutation import Field, join, mutate

REFUSALS = (BadModelfile,)
PARAMETERS = (*sorted(INTEGERS | FLOATS), "use_mmap", "stop", "stop", "nonsense")
VALUES = ("1", "0.5", "-1", "1e999", "nan", "true", "", "<|eot_id|>", '" two "', '"""\na\n"""', "9" * 5000)
TEXTS = (
    "llama3.1",
    "./model.gguf",
    '"quoted"',
    '"""three\nlines\n"""',
    'one " in it',
    '"""ends with a quote""""',
    '"',
    '"""',
    "# no comment",
    "é 日本 🦙",
    "{{ .Prompt }}",
    " \t ",
)
INSTRUCTIONS = ("System", "SYSTEM", "TEMPLATE", "LICENSE", "license", "ADAPTER")
RARE = ("FROM", "REQUIRES", "DRAFT", "BOGUS")


def make(chance: random.Random) -> bytes:
    """Return a Modelfile, mutated in two cases of three."""
    lines = [_text("FROM ", chance)] if chance.random() < 0.95 else []
    lines += [_line(chance) for _ in range(chance.randrange(6))]
    chance.shuffle(lines)
    ends = chance.choice(("\n", "\n", "\r\n", "\r"))
    fields = [Field("text", piece.encode()) for line in lines for piece in (line, ends)] or [Field("text", b"")]
    return mutate(fields, chance) if chance.random() < 0.5 else join(fields)


def check(path: Path) -> None:
    """Read a Modelfile; where that succeeds, what is written of it must be read as the same. Raises AssertionError."""
    given = parse_modelfile(path.read_bytes().decode("utf-8", errors="replace"))
    try:
        written = str(given)
    except BadModelfile:
        return  # no quotes can hold one of its texts
    again = parse_modelfile(written)
    assert repr(again) == repr(given), f"{again!r} was written for {given!r}"  # by its looks: nan is not equal to nan


def _line(chance: random.Random) -> str:
    if chance.random() < 0.3:
        return f"PARAMETER {chance.choice(PARAMETERS)} {chance.choice(VALUES)}"
    if chance.random() < 0.2:
        return f"MESSAGE {chance.choice(('user', 'assistant', 'system', 'robot', ''))} {chance.choice(TEXTS)}"
    if chance.random() < 0.1:
        return f"# {chance.choice(TEXTS)}"
    instruction = chance.choice(RARE if chance.random() < 0.1 else INSTRUCTIONS)
    return _text(f"{instruction}{chance.choice((' ', ' ', ' ', '  ', '	'))}", chance)


def _text(start: str, chance: random.Random) -> str:
    return start + chance.choice(TEXTS)
