"""What a client is told of an answer that a safety model refused, where its dialect has no words for it."""

from __future__ import annotations

from typing import Literal

import msgspec

from camelid.types import Refusal


class CategoryOut(msgspec.Struct, forbid_unknown_fields=True):
    """What the policy forbids."""

    key: str
    name: str


class VerdictOut(msgspec.Struct, forbid_unknown_fields=True):
    """What was judged unsafe, and why."""

    direction: Literal["input", "output"]
    categories: list[CategoryOut]


def verdict(refusal: Refusal) -> VerdictOut:
    """Return a refusal as it is written into answers."""
    categories = [CategoryOut(category.key, category.name) for category in refusal.categories]
    return VerdictOut(refusal.direction, categories)
