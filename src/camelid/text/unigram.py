"""Builds the tokenizer of XLM-RoBERTa's kin (bge-m3, multilingual e5 and rerankers) from the metadata of a GGUF file.

llama.cpp calls it `t5`: SentencePiece's unigram model, which takes the likeliest way to cut a text. Apart from
`from_gguf.py`, whose SentencePiece models merge pairs; and like BERT's, such vocabularies are read with, not written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

from camelid.errors import BadVocabulary

from .tokenizer import ControlToken, Ends, Spelling, Tokenizer

if TYPE_CHECKING:
    import tokenizers

_PREFIX = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # of gguf.TokenType; what is above is unused or a byte
_HIDDEN = 0x100000  # plane 16, private use: in place of tokens that no text may become


def from_gguf_unigram(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer that `metadata` describes. Raises BadVocabulary."""
    tokens, scores, kinds = _vocabulary(metadata)
    bos = _id(metadata, ("bos_token_id", "cls_token_id"), "<s>", tokens)
    eos = _id(metadata, ("eos_token_id", "seperator_token_id"), "</s>", tokens)
    unknown = _id(metadata, ("unknown_token_id",), "<unk>", tokens)
    indexes = {index for index, kind in enumerate(kinds) if kind == _CONTROL} | {bos, eos}
    control = {tokens[index]: ControlToken(index, tokens[index]) for index in sorted(indexes)}
    core = _core(metadata, tokens, scores, kinds, indexes, unknown)
    return Tokenizer(
        core=core,
        core_after_control=core,
        token=tokens.__getitem__,
        spelling=Spelling.SENTENCE_PIECE,
        vocab_size=len(tokens),
        control=control,
        ends=Ends(bos, eos, frozenset({eos}), adds_bos=True, adds_eos=True, between=(eos,)),
        plain_ids=frozenset(indexes),
        unknown_id=unknown,
    )


def _core(
    metadata: Mapping[str, Any],
    tokens: Sequence[str],
    scores: Sequence[float],
    kinds: Sequence[int],
    control: set[int],
    unknown: int,
) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Core
    from tokenizers.models import Unigram
    from tokenizers.normalizers import Precompiled
    from tokenizers.pre_tokenizers import Metaspace, WhitespaceSplit
    from tokenizers.pre_tokenizers import Sequence as InOrder

    hidden = {index for index, kind in enumerate(kinds) if kind not in (_NORMAL, _USER_DEFINED)} | control
    lowest = min((score for index, score in enumerate(scores) if index not in hidden), default=0.0)
    pieces = [
        (chr(_HIDDEN + index), lowest) if index in hidden and index != unknown else (tokens[index], scores[index])
        for index in range(len(tokens))
    ]
    core = Core(Unigram(pieces, unk_id=unknown, byte_fallback=False))
    if charsmap := metadata.get(_PREFIX + "precompiled_charsmap"):
        core.normalizer = _precompiled(Precompiled, charsmap)
    scheme = "always" if metadata.get(_PREFIX + "add_space_prefix", True) else "never"
    core.pre_tokenizer = InOrder([WhitespaceSplit(), Metaspace("▁", scheme)])
    return core


def _precompiled(kind: Any, charsmap: Sequence[int]) -> Any:
    """Return the normalizer that the file brings along."""
    try:
        return kind(bytes(int(value) & 0xFF for value in charsmap))
    except Exception as error:  # the library raises nothing narrower
        raise BadVocabulary(f"tokenizer.ggml.precompiled_charsmap is not usable: {error}") from error


def _vocabulary(metadata: Mapping[str, Any]) -> tuple[list[str], list[float], list[int]]:
    """Return tokens, scores and types, one of each for each token. Raises BadVocabulary."""
    lists = {}
    for name in ("tokens", "scores", "token_type"):
        values = metadata.get(_PREFIX + name)
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise BadVocabulary(f"the metadata has no usable tokenizer.ggml.{name}", hint="convert the model again")
        lists[name] = list(values)
    tokens, scores, kinds = lists["tokens"], lists["scores"], lists["token_type"]
    if not len(tokens) == len(scores) == len(kinds) or len(tokens) >= 0xFFFF0:
        raise BadVocabulary(f"{len(tokens)} tokens have {len(scores)} scores and {len(kinds)} types")
    if not set(map(type, tokens)) <= {str}:
        raise BadVocabulary("tokenizer.ggml.tokens must hold strings only")
    return tokens, [float(score) for score in scores], [int(kind) for kind in kinds]


def _id(metadata: Mapping[str, Any], keys: Sequence[str], spelling: str, tokens: Sequence[str]) -> int:
    """Return the token that a key names, else the one that is spelled so. Raises BadVocabulary."""
    for key in keys:
        value = metadata.get(_PREFIX + key)
        if isinstance(value, SupportsIndex):
            if not 0 <= int(value) < len(tokens):
                raise BadVocabulary(f"tokenizer.ggml.{key} is {int(value)}, but there are {len(tokens)} tokens")
            return int(value)
    if spelling not in tokens:
        raise BadVocabulary(f"the vocabulary lacks {spelling}", hint="convert the model again")
    return tokens.index(spelling)
