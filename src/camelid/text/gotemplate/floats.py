"""Floating-point numbers as Go writes them: the fewest digits that mean the number, and where an exponent begins."""

from __future__ import annotations

import math

_PLAIN_DIGITS = 6  # from a million on, %v writes an exponent


def shortest(value: float, form: str = "g") -> str:
    """Return a number with the fewest digits. form: `e`, `f`, or `g`, which chooses by the size as Go's %v does."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign = "-" if math.copysign(1, value) < 0 else ""
    digits, point = _digits(abs(value))
    if form == "g":
        form = "e" if point - 1 < -4 or point - 1 >= _PLAIN_DIGITS else "f"
    return sign + (_scientific(digits, point) if form == "e" else _positional(digits, point))


def _digits(value: float) -> tuple[str, int]:
    """Return the significant digits, and how many of them stand before the point."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    num_leading = len(whole + fraction) - len(digits)
    point = len(whole) - num_leading + int(exponent or 0)
    digits = digits.rstrip("0")
    return (digits, point) if digits else ("0", 1)


def _scientific(digits: str, point: int) -> str:
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    exponent = point - 1
    return f"{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _positional(digits: str, point: int) -> str:
    if point <= 0:
        return f"0.{'0' * -point}{digits}"
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"
