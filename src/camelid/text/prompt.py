"""Prompts in which the template's text and the text from outside can be told apart.

A control token (`<|eot_id|>`, `</s>`) ends turns and names speakers, so only the template may write one. Before a
template renders, the few characters that the control tokens of a vocabulary cannot do without are exchanged, in every
string from outside, for private-use characters. Whatever the template does to such a string (trim it, cut it, glue it
to another), the result cannot spell a control token; the tokenizer looks for control tokens first and changes the
characters back afterwards. docs/decisions/0010-prompts-that-cannot-be-forged.md tells why this and not something else.

Separate because templates make prompts and tokenizers read them, and neither knows the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from camelid.errors import InvalidRequest

MAX_NESTING = 64  # of lists and mappings in tool schemas and arguments; JSON schemas in use stay below 20

_PRIVATE = range(0xF0000, 0xFFFFE)  # plane 15: private use, so no text has a reason to contain it
_ANY_PRIVATE = re.compile(f"[{chr(_PRIVATE.start)}-{chr(_PRIVATE.stop - 1)}]")
_PREFERRED = "|｜<>[]"  # what control tokens are usually written with, rarest in ordinary text first


@dataclass(frozen=True)
class Marks:
    """Protected characters and, in the same order, the private ones that stand for them in text from outside."""

    plain: str = ""
    private: str = ""

    def mark(self, text: str) -> str:
        """Return text from outside so that it cannot spell a control token."""
        for plain, private in zip(self.plain, self.private, strict=True):
            text = text.replace(plain, private)
        return text

    def unmark(self, text: str) -> str:
        """Return the text as it was before `mark`."""
        for plain, private in zip(self.plain, self.private, strict=True):
            text = text.replace(private, plain)
        return text

    def mark_all(self, value: Any) -> Any:
        """Return a copy of a JSON value with every string in it marked, keys included."""
        if isinstance(value, str):
            return self.mark(value)
        if isinstance(value, dict):
            return {self.mark(key): self.mark_all(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.mark_all(item) for item in value]
        return value


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt. `marked` has private characters wherever text from outside had protected ones."""

    marked: str
    marks: Marks = Marks()

    @property
    def text(self) -> str:
        """The prompt as the template wrote it, with nothing to tell trusted text from other text."""
        return self.marks.unmark(self.marked)


def protected_characters(spellings: Iterable[str]) -> str:
    """Return a small set of characters of which every spelling contains at least one.

    Greedy: the character that most of the remaining spellings contain; among equals the one rarest in ordinary text.
    """
    remaining = [spelling for spelling in spellings if spelling]
    chosen = ""
    while remaining:
        counts = Counter(character for spelling in remaining for character in set(spelling))
        best = max(counts, key=lambda character: (not character.isalnum(), counts[character], _rarity(character)))
        chosen += best
        remaining = [spelling for spelling in remaining if best not in spelling]
    return chosen


def choose_marks(protected: str, texts: Iterable[str]) -> Marks:
    """Choose private characters that occur in none of `texts` for the protected ones that do.

    Raises InvalidRequest when the texts leave no private character free.
    """
    needed: set[str] = set()
    used: set[str] = set()
    for text in texts:
        needed.update(character for character in protected if character in text)
        used |= _private_in(text)
    private = _free(used, len(needed))
    return Marks("".join(sorted(needed)), private)


def free_private(texts: Iterable[str]) -> str:
    """Return a private character that occurs in none of `texts`. Raises InvalidRequest when there is none."""
    return _free(set[str]().union(*map(_private_in, texts)), 1)


def _private_in(text: str) -> set[str]:
    return set() if text.isascii() else set(_ANY_PRIVATE.findall(text))


def _free(used: set[str], count: int) -> str:
    """Return so many private characters that are not `used`. Raises InvalidRequest when there are fewer."""
    free = (character for character in map(chr, _PRIVATE) if character not in used)
    chosen = "".join(islice(free, count))
    if len(chosen) < count:
        raise InvalidRequest("the messages use up all 65,534 private-use characters of plane 15", field="messages")
    return chosen


def strings_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield every string in a JSON value, keys included. Raises InvalidRequest beyond MAX_NESTING levels."""
    if depth > MAX_NESTING:
        raise InvalidRequest(f"tools and arguments may be nested {MAX_NESTING} levels deep, and these are deeper")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from strings_in(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings_in(item, depth + 1)


def _rarity(character: str) -> int:
    """Rank a character: the earlier in _PREFERRED, the higher; anything else below."""
    return -_PREFERRED.find(character) if character in _PREFERRED else -len(_PREFERRED)
