"""A model's vocabulary as grammars see it: the bytes of every id, which ids are no text, and which end an answer.

Separate because it is all that crosses from the side that has a tokenizer to the side that has an engine.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[i]` is what id i stands for, empty for an unused id. `control_ids` are never part of a text; `end_ids`
    end an answer.
    """

    tokens: tuple[bytes, ...]
    control_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
