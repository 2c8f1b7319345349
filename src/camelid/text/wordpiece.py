"""Builds BERT's tokenizer, WordPiece, from the metadata of a GGUF file.

Apart from the other builders because the rules are others: words are cleaned and cut at blanks and punctuation, and the
longest known beginnings are taken; text is read and never written. llama.cpp's converter writes `▁` before a token that
begins a word and takes the `##` from one that does not; here that is undone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

from camelid.errors import BadVocabulary

from .tokenizer import ControlToken, Ends, Spelling, Tokenizer

if TYPE_CHECKING:
    import tokenizers

_PREFIX = "tokenizer.ggml."
_BRACKETED = re.compile(r"\[[^\]]+\]")
_CONTROL_TYPES = (2, 3)  # unknown and control, of gguf.TokenType
MAX_WORD = 100  # characters of a word; a longer one is unknown, as for BERT itself

# What a token is for: the keys that may name it, and how BERT spells it. (`seperator` is what the format says.)
_ROLES = {
    "cls": (("cls_token_id", "bos_token_id"), "[CLS]"),
    "sep": (("seperator_token_id", "eos_token_id"), "[SEP]"),
    "unknown": (("unknown_token_id",), "[UNK]"),
    "padding": (("padding_token_id",), "[PAD]"),
    "mask": (("mask_token_id",), "[MASK]"),
}


def from_gguf_wordpiece(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer that `metadata` describes. Raises BadVocabulary."""
    tokens = _tokens(metadata)
    types = metadata.get(_PREFIX + "token_type") or ()
    spellings = [_spelled(token, types[i] if i < len(types) else 1) for i, token in enumerate(tokens)]
    roles = {role: _find(metadata, role, spellings) for role in _ROLES}
    cls, sep, unknown = roles["cls"], roles["sep"], roles["unknown"]
    if cls is None or sep is None or unknown is None:
        raise BadVocabulary("the vocabulary lacks one of [CLS], [SEP] and [UNK]", hint="convert the model again")
    control = {spellings[index]: ControlToken(index, spellings[index]) for index in roles.values() if index is not None}
    core = _core(spellings, spellings[unknown], is_cased=_is_cased(spellings))
    return Tokenizer(
        core=core,
        core_after_control=core,
        token=tokens.__getitem__,
        spelling=Spelling.SENTENCE_PIECE,
        vocab_size=len(tokens),
        control=control,
        ends=Ends(cls, sep, frozenset({sep}), adds_bos=True, adds_eos=True),
        plain_ids=frozenset(token.id for token in control.values()),
        unknown_id=unknown,
    )


def _core(spellings: Sequence[str], unknown: str, *, is_cased: bool) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Core
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    ids: dict[str, int] = {}
    for index, spelling in enumerate(spellings):
        ids.setdefault(spelling, index)
    core = Core(WordPiece(ids, unk_token=unknown, max_input_chars_per_word=MAX_WORD))
    core.normalizer = BertNormalizer(lowercase=not is_cased)
    core.pre_tokenizer = BertPreTokenizer()
    return core


def _spelled(token: str, kind: int) -> str:
    """Return a token as BERT's own vocabulary has it."""
    if token.startswith("▁"):
        return token[1:]
    if kind in _CONTROL_TYPES or _BRACKETED.fullmatch(token):
        return token
    return f"##{token}"


def _is_cased(spellings: Sequence[str]) -> bool:
    """Tell whether capital letters mean something: the format does not say, but then no token has one."""
    return any(
        any("A" <= letter <= "Z" for letter in spelling) for spelling in spellings if not _BRACKETED.fullmatch(spelling)
    )


def _find(metadata: Mapping[str, Any], role: str, spellings: Sequence[str]) -> int | None:
    """Return the token of a role: the one that a key names, else the one that is spelled so."""
    keys, spelling = _ROLES[role]
    for key in keys:
        value = metadata.get(_PREFIX + key)
        if isinstance(value, SupportsIndex):
            if not 0 <= int(value) < len(spellings):
                raise BadVocabulary(f"tokenizer.ggml.{key} is {int(value)}, but there are {len(spellings)} tokens")
            return int(value)
    return spellings.index(spelling) if spelling in spellings else None


def _tokens(metadata: Mapping[str, Any]) -> list[str]:
    values = metadata.get(_PREFIX + "tokens")
    tokens = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []
    if not tokens or not set(map(type, tokens)) <= {str}:
        raise BadVocabulary("the metadata has no usable tokenizer.ggml.tokens", hint="convert the model again")
    return tokens
