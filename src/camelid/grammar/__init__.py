"""Constrained answers: a schema, regex or grammar becomes a mask of the tokens that may come next.

A thin room over the library llguidance. `checker` refuses what is wrong or costs too much, in a process with limits and
without a vocabulary; `compiler` joins what was found good with a model's vocabulary, once; a `matcher` walks it, one
for each sequence. It knows no sampling, no tokenizer and no text of its own: the vocabulary arrives as bytes.
"""

from __future__ import annotations

from .checker import GrammarChecker
from .compiler import Compiler
from .matcher import Matcher
from .vocabulary import Vocabulary

__all__ = ["Compiler", "GrammarChecker", "Matcher", "Vocabulary"]
