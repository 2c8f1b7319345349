"""Filling in between two texts, for models that were trained to: which control tokens say so, and the prompt of them.

Apart from the tokenizer because only some models can. Order and tokens are those of the models' own papers and cards:
prefix, suffix, then the middle that is asked for. Source: Bavarian et al. 2022 (fill in the middle), Rozière et al.
2023 (Code Llama, section 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from .tokenizer import Tokenizer

# Spellings of (prefix, suffix, middle), family by family; a vocabulary has one of them as control tokens, or none.
_FAMILIES = (
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    ("<PRE>", "<SUF>", "<MID>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma, Granite
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek Coder
)


@dataclass(frozen=True)
class Infill:
    """The ids of the three control tokens."""

    prefix: int
    suffix: int
    middle: int

    def encode(self, tokenizer: Tokenizer, before: str, after: str) -> list[int]:
        """Return the prompt that asks for what stands between two texts; no text in them is a control token."""
        begin = tokenizer.encode("", with_bos=True)
        head = [*begin, self.prefix, *tokenizer.encode(before, after_control=True)]
        return [*head, self.suffix, *tokenizer.encode(after, after_control=True), self.middle]


def find_infill(tokenizer: Tokenizer) -> Infill | None:
    """Return the tokens that ask a model to fill in, or None where its vocabulary has none."""
    for family in _FAMILIES:
        found = [tokenizer.control.get(spelling) for spelling in family]
        prefix, suffix, middle = found
        if prefix is not None and suffix is not None and middle is not None:
            return Infill(prefix.id, suffix.id, middle.id)
    return None
