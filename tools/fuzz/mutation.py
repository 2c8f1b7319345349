"""Structure-aware mutation of binary files: a file as a list of fields, and ways to make some of them lie.

Bytes flipped at random die at the first check. Here a well-formed file is taken apart into its fields, one to three of
them are changed, and the rest is written back as it was, so that the deep checks are reached.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

EDGES = (0, 1, 2, 3, 7, 8, 15, 31, 32, 33, 64, 255, 256, 4096, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
HUGE = (2**40, 2**60, 2**61, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 32, 2**64 - 8, 2**64 - 1)
BAD_TEXT = (
    b"",
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\x00",
    b"a" * 70_000,
    b"general",
)


@dataclass(frozen=True)
class Field:
    """A run of bytes with one meaning. `kind` is number, text or data."""

    kind: str
    raw: bytes

    @staticmethod
    def number(value: int, num_bytes: int) -> Field:
        return Field("number", value.to_bytes(num_bytes, "little"))


def join(fields: list[Field]) -> bytes:
    return b"".join(field.raw for field in fields)


def mutate(fields: list[Field], chance: random.Random) -> bytes:
    """Return a file with one to three of its fields, or its order or length, changed."""
    fields = list(fields)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _change_one(fields, chance)
    raw = join(fields)
    if chance.random() < 0.1:
        raw = raw[: chance.randrange(len(raw) + 1)]
    if chance.random() < 0.05:
        raw += chance.randbytes(chance.choice((1, 31, 32, 64)))
    return raw


def _change_one(fields: list[Field], chance: random.Random) -> None:
    at = chance.randrange(len(fields))
    action = chance.random()
    if action < 0.06:
        del fields[at : at + chance.choice((1, 1, 2, 5))]
    elif action < 0.12:
        fields[at:at] = fields[at : at + chance.choice((1, 2, 5))]
    elif action < 0.2:
        other = chance.randrange(len(fields))
        fields[at], fields[other] = fields[other], fields[at]
    else:
        fields[at] = replace(fields[at], raw=_other(fields[at], fields, chance))
    if not fields:
        fields.append(Field("data", b"\x00"))


def _other(field: Field, fields: list[Field], chance: random.Random) -> bytes:
    if field.kind == "number":
        return _other_number(field.raw, chance)
    if field.kind == "text" and chance.random() < 0.6:
        texts = [other.raw for other in fields if other.kind == "text"]
        return chance.choice((chance.choice(BAD_TEXT), chance.choice(texts)))
    return _flip(field.raw, chance)


def _other_number(raw: bytes, chance: random.Random) -> bytes:
    bits = 8 * len(raw)
    value = int.from_bytes(raw, "little")
    near = (
        value + 1,
        value - 1,
        value * 2,
        value // 2,
        value + 32,
        value - 32,
        -value,
        value ^ (1 << chance.randrange(bits)),
    )
    value = chance.choice((chance.choice(EDGES), chance.choice(HUGE), chance.choice(near), chance.choice(near)))
    return (value % (1 << bits)).to_bytes(len(raw), "little")


def _flip(raw: bytes, chance: random.Random) -> bytes:
    if not raw:
        return b"\x01"
    changed = bytearray(raw)
    for _ in range(chance.choice((1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)
