"""Go's literals: quoted strings, characters, numbers. Each raises ValueError for what is none.

Go's strings are bytes. Here they are text in which a byte that is no UTF-8 is a lone surrogate, as Python's own
`surrogateescape` has it.
"""

from __future__ import annotations

import re

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_ESCAPE = re.compile(
    r"\\(?:(?P<simple>[abfnrtv\\'\"])|x(?P<byte>[0-9a-fA-F]{2})|(?P<octal>[0-7]{3})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))"
)
_INTEGER = re.compile(r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|[0-9](?:_?[0-9])*)")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")


def unquote(text: str) -> str:
    """Return what a string literal, with its quotes, stands for."""
    if text[0] == "`":
        return text[1:-1].replace("\r", "")
    return _unescaped(text[1:-1], other="'")


def character(text: str) -> int:
    """Return the number of a character constant, with its quotes."""
    inner = text[1:-1]
    escape = _ESCAPE.fullmatch(inner)
    if escape is not None and (escape["byte"] or escape["octal"]):
        return _byte(escape)
    value = _unescaped(inner, other='"')
    if len(value) != 1:
        raise ValueError(f"{text[:40]} is not one character")
    return ord(value)


def number(text: str) -> int | float:
    """Return the number that a literal writes: one with a point or an exponent is a float."""
    if text.endswith("i") and not text.lower().lstrip("+-").startswith("0x"):
        raise ValueError(f"{text[:40]} is imaginary, and complex numbers are not supported")
    if _HEXADECIMAL.fullmatch(text):
        return _finite(float.fromhex(text), text)
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _DECIMAL.fullmatch(text):
        return _finite(float(text), text)
    raise ValueError(f"{text[:40]!r} is no number")


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    octal = re.fullmatch(r"0_?([0-7][0-7_]*)", digits)
    value = int(octal[1], 8) if octal else int(digits, 0)
    value = -value if text.startswith("-") else value
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{text[:40]} overflows int")
    return value


def _finite(value: float, text: str) -> float:
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is out of range")
    return value


def _unescaped(inner: str, other: str) -> str:
    """Replace escapes. The quote of the other kind of literal has none."""
    pieces: list[bytes] = []
    at = 0
    while (slash := inner.find("\\", at)) >= 0:
        escape = _ESCAPE.match(inner, slash)
        if escape is None or escape["simple"] == other:
            raise ValueError(f"bad escape {inner[slash : slash + 4]!r}")
        pieces += [_bytes(inner[at:slash]), _replaced(escape)]
        at = escape.end()
    pieces.append(_bytes(inner[at:]))
    return b"".join(pieces).decode("utf-8", errors="surrogateescape")


def _replaced(escape: re.Match[str]) -> bytes:
    if escape["byte"] or escape["octal"]:
        return bytes([_byte(escape)])
    if escape["simple"]:
        return _SIMPLE.get(escape["simple"], escape["simple"]).encode()
    code = int(escape["short"] or escape["long"], 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError(f"{escape.group()} is no character")
    return chr(code).encode()


def _byte(escape: re.Match[str]) -> int:
    value = int(escape["byte"], 16) if escape["byte"] else int(escape["octal"], 8)
    if value > 255:
        raise ValueError(f"{escape.group()} is no byte")
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")
