"""Equality and order of values, as Go's templates have them: only values of one kind can be compared."""

from __future__ import annotations

from .marking import Marked
from .values import FunctionError, Value, basic_kind, encoded, is_list, type_name


def equal(left: Value, right: Value, marked: Marked) -> bool:
    """Tell whether two values are equal. Raises FunctionError for two kinds, and for lists and maps."""
    kinds = basic_kind(left), basic_kind(right)
    if kinds[0] is not kinds[1]:
        if left is None or right is None:
            return False
        raise FunctionError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    if kinds[0] is str:
        return marked.plain(left) == marked.plain(right)
    if kinds[0] is not None:
        return bool(left == right)
    if left is None or right is None:
        return left is right
    for value in (left, right):
        if is_list(value) or isinstance(value, dict):
            raise FunctionError(f"non-comparable type {type_name(value)}")
    return left is right


def less(left: Value, right: Value, marked: Marked) -> bool:
    """Tell whether one value comes before another. Raises FunctionError for what has no order."""
    kinds = basic_kind(left), basic_kind(right)
    if None in kinds:
        raise FunctionError("invalid type for comparison")
    if kinds[0] is not kinds[1]:
        raise FunctionError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    if kinds[0] is bool:
        raise FunctionError("invalid type for comparison")
    if kinds[0] is str:
        return encoded(marked.plain(left)) < encoded(marked.plain(right))
    return bool(left < right)
