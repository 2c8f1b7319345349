"""Joins grammars with a model's vocabulary: once for each grammar, and then a copy for each sequence.

Separate from the matcher because this is shared and that is not. It takes what `checker` has found good, and may still
refuse it: with a vocabulary there is more to compute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from camelid.errors import BadGrammar, MissingDependency

from .limits import PARSER
from .matcher import Matcher
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_KEPT = 64  # grammars; the least recently used one is compiled again when it comes back

# Sets of tokens that are looked at once: in a string of JSON most of a vocabulary is allowed, and where all of a set
# is, its tokens need not be tried one by one. The lengths are those at which `maxLength` begins to bite.
_IN_STRING = r'[^"\\\x00-\x1F\x7F]'
SLICES = [r"[\x20\x0A\x0D\x09]+", *(f"{_IN_STRING}{{1,{n}}}" for n in (2, 4, 6, 8, 10, 15, 30)), f"{_IN_STRING}+"]


class Compiler:
    """Compiles grammars for one vocabulary. The first one takes long: it sorts the vocabulary (0.8 s for 128K)."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._tokens = _Tokens(vocabulary)
        self._tokenizer: LLTokenizer | None = None
        self._compiled: dict[str, LLMatcher] = {}
        self._lock = threading.Lock()

    def is_ready(self, source: str) -> bool:
        """Tell whether `begin` needs no compiling."""
        return source in self._compiled

    def compile(self, source: str) -> None:
        """Make a grammar ready, from any thread. Raises BadGrammar."""
        with self._lock:
            found = self._compiled.pop(source, None)
            self._compiled[source] = found if found is not None else self._new(source)
            while len(self._compiled) > MAX_KEPT:
                del self._compiled[next(iter(self._compiled))]

    def begin(self, source: str) -> Matcher:
        """Return a matcher at the beginning of an answer. Raises BadGrammar."""
        self.compile(source)
        with self._lock:
            state = self._compiled[source].deep_copy()
        return Matcher(state, len(self._vocabulary.tokens), frozenset(self._vocabulary.end_ids))

    def close(self) -> None:
        """Free what the library holds. Matchers that are left go on, but nothing is compiled any more."""
        self._tokens.cut = None  # it holds the library's tokenizer, which holds it
        self._compiled.clear()

    def _new(self, source: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        if self._tokenizer is None:
            self._tokenizer = self._tokens.sorted()
        made = LLMatcher(self._tokenizer, source, log_level=0, limits=LLParserLimits(**PARSER, verbose_errors=False))
        if made.is_error():
            raise BadGrammar(f"the grammar cannot be compiled: {' '.join(made.get_error().split())[:300]}")
        return made


class _Tokens:
    """A vocabulary in the shape that the library asks for, with the attributes that it looks for.

    Forced text is cut into the longest tokens: close to what a tokenizer does, and always the same.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        if not vocabulary.end_ids:
            raise BadGrammar("this model has no token that ends an answer, so none can be given under a grammar")
        self.tokens = vocabulary.tokens
        self.special_token_ids = vocabulary.control_ids
        self.eos_token_id = vocabulary.end_ids[0]
        self.end_ids = list(vocabulary.end_ids)
        self.cut: Callable[[str], list[int]] | None = None

    def __call__(self, text: str | bytes) -> list[int]:
        if self.cut is None:
            return []
        return self.cut(text if isinstance(text, str) else text.decode("utf-8", errors="replace"))

    def sorted(self) -> LLTokenizer:
        """Return the library's own form of it. It keeps the interpreter to itself while it is made."""
        try:
            from llguidance import LLTokenizer
        except ImportError as error:
            raise MissingDependency("grammars need llguidance", hint="pip install llguidance") from error
        given: Any = self
        made = LLTokenizer(given, n_vocab=len(self.tokens), eos_token=self.end_ids, slices=SLICES)
        self.cut = made.greedy_tokenize
        return made
