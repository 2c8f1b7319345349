"""Reads single values out of a checkpoint's metadata, each checked for kind and bounds as it is read.

Metadata come from a file that anybody can write, so nothing is believed: a missing key, a string where a count should
be, NaN, or a number out of all proportion raises a ModelError that names key, value and rule. It does not know which
keys an architecture has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from camelid.errors import ModelError

REPAIR = "the metadata are incomplete or contradict each other: convert or download the model again"


def refusal(key: str, value: object, rule: str) -> ModelError:
    """Return the error for a value that breaks a rule; `rule` follows the word "but"."""
    return ModelError(f"{key} is {value!r:.120}, but {rule}", hint=REPAIR)


@dataclass(frozen=True, eq=False)
class Fields:
    """A mapping of metadata, read key by key. `prefix` goes before every key, in the mapping and in messages."""

    values: Mapping[str, Any]
    prefix: str = ""

    def has(self, key: str) -> bool:
        """Whether the key is there with a value other than null."""
        return self.values.get(self.prefix + key) is not None

    def count(self, key: str, high: int, *, default: int | None = None, low: int = 1) -> int:
        """Return a whole number from `low` to `high`. Raises ModelError."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refuse(key, f"it must be a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, *, default: float | None = None) -> float:
        """Return a number from `low` to `high`, which are finite. Raises ModelError."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(key, "it must be a number")
        if not low <= value <= high:
            raise self.refuse(key, f"it must be a number from {low:g} to {high:g}")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string. Raises ModelError."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.refuse(key, "it must be a string")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean. Raises ModelError."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.refuse(key, "it must be true or false")
        return value

    def section(self, key: str) -> Fields:
        """Return the mapping under `key` (empty when the key is absent). Raises ModelError."""
        value = self._value(key, {})
        if not isinstance(value, Mapping):
            raise self.refuse(key, "it must be a mapping")
        return Fields({f"{self.prefix}{key}.{name}": entry for name, entry in value.items()}, f"{self.prefix}{key}.")

    def refuse(self, key: str, rule: str) -> ModelError:
        """Return the error for the value under `key`."""
        return refusal(self.prefix + key, self.values.get(self.prefix + key), rule)

    def _value(self, key: str, default: object) -> object:
        value = self.values.get(self.prefix + key)
        if value is not None:
            return value
        if default is None:
            raise ModelError(f"the model's metadata lack {self.prefix + key}", hint=REPAIR)
        return default
