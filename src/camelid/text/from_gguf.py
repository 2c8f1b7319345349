"""Builds a tokenizer from the metadata of a GGUF file.

Separate from the other builders because GGUF names its rules (`tokenizer.ggml.model`, `.pre`) where tokenizer.json
spells them out. Takes the metadata as a mapping and knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, SupportsIndex

from camelid.errors import BadVocabulary, UnsupportedModel

from .bytelevel import REQUIRED
from .merges import cuts_of
from .pretokenizers import is_llama_3_kin, pre_tokenizer
from .tokenizer import TURN_ENDS, ControlToken, Ends, Spelling, Tokenizer, looks_like_control
from .unigram import from_gguf_unigram
from .wordpiece import from_gguf_wordpiece

if TYPE_CHECKING:
    import tokenizers
    from tokenizers.models import BPE

_PREFIX = "tokenizer.ggml."
_NORMAL = 1  # a plain number: comparing 128,000 kinds with an enum's member takes four times as long


class _Kind(IntEnum):
    """What `tokenizer.ggml.token_type` says of a token (gguf.TokenType)."""

    NORMAL = _NORMAL
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens of a file, and the kinds of those that are not normal ones (a few hundred of 128,000)."""

    tokens: list[str]
    kinds: Mapping[int, int]

    def ids(self, *kinds: _Kind) -> list[int]:
        return [index for index, kind in self.kinds.items() if kind in kinds]

    def mergeable(self) -> dict[str, int]:
        """Return token to id for all that text may become; of tokens that occur twice the first counts."""
        hidden = self.ids(_Kind.CONTROL, _Kind.UNKNOWN, _Kind.UNUSED)
        ids = dict(zip(self.tokens, range(len(self.tokens)), strict=True))
        if len(ids) < len(self.tokens):
            ids = {self.tokens[index]: index for index in range(len(self.tokens) - 1, -1, -1)}
        for index in hidden:
            if ids.get(self.tokens[index]) == index:
                del ids[self.tokens[index]]
        return ids


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer that `metadata` describes.

    Raises UnsupportedModel for a kind or pre-tokenizer that is not known, and BadVocabulary where tokens, types,
    scores, merges and ids do not fit together.
    """
    model = _get(metadata, "model", str)
    if model not in _BUILDERS:
        raise UnsupportedModel(
            f"the tokenizer {model!r} (tokenizer.ggml.model) is not supported",
            hint=f"use a model whose tokenizer is one of: {', '.join(_BUILDERS)}",
        )
    return _BUILDERS[model](metadata)


def _byte_level(metadata: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer as Core

    vocabulary = _vocabulary(metadata)
    name = _pre_name(metadata, vocabulary)
    mergeable = vocabulary.mergeable()
    is_kin = is_llama_3_kin(name)
    missing = REQUIRED - mergeable.keys()
    if missing:
        raise BadVocabulary(f"the vocabulary lacks {len(missing)} of the 243 byte tokens, {min(missing)!r} among them")
    core = Core(_bpe(mergeable, _split_merges(_strings(metadata, "merges")), ignore_merges=is_kin))
    core.pre_tokenizer = pre_tokenizer(name)
    return _assemble(metadata, vocabulary, core, Spelling.BYTE_LEVEL, adds_bos=is_kin, strips_first_space=False)


def _sentence_piece(metadata: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer as Core
    from tokenizers.normalizers import Prepend, Replace, Sequence

    vocabulary = _vocabulary(metadata)
    adds_space = bool(metadata.get(_PREFIX + "add_space_prefix", True))
    has_all_bytes = len(vocabulary.ids(_Kind.BYTE)) == 256
    unknown = _id(metadata, "unknown_token_id", len(vocabulary.tokens))
    mergeable = vocabulary.mergeable()
    if unknown is not None:
        mergeable[vocabulary.tokens[unknown]] = unknown
    core = Core(
        _bpe(
            mergeable,
            _merges_by_score(metadata, vocabulary),
            byte_fallback=has_all_bytes,
            fuse_unk=True,
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
        )
    )
    spaces = Replace(" ", "▁")
    core.normalizer = Sequence([Prepend("▁"), spaces]) if adds_space else spaces
    return _assemble(metadata, vocabulary, core, Spelling.SENTENCE_PIECE, adds_bos=True, strips_first_space=adds_space)


_BUILDERS = {"gpt2": _byte_level, "llama": _sentence_piece, "bert": from_gguf_wordpiece, "t5": from_gguf_unigram}


def _assemble(
    metadata: Mapping[str, Any],
    vocabulary: _Vocabulary,
    core: tokenizers.Tokenizer,
    spelling: Spelling,
    *,
    adds_bos: bool,
    strips_first_space: bool,
) -> Tokenizer:
    from tokenizers import AddedToken

    user_defined = {vocabulary.tokens[index]: index for index in vocabulary.ids(_Kind.USER_DEFINED)}
    # One that occurs twice may be another token to the library, which would then make up an id.
    words = [token for token, index in user_defined.items() if token and core.token_to_id(token) == index]
    core.add_tokens([AddedToken(word, normalized=False) for word in words])
    control = _control_tokens(vocabulary)
    return Tokenizer(
        core=core,
        core_after_control=core,  # a space goes before every piece of text, or before none
        token=vocabulary.tokens.__getitem__,
        spelling=spelling,
        vocab_size=len(vocabulary.tokens),
        control=control,
        ends=_ends(metadata, vocabulary, control, adds_bos=adds_bos),
        plain_ids=frozenset([*vocabulary.ids(_Kind.CONTROL, _Kind.UNKNOWN), *_plain(user_defined, spelling)]),
        strips_first_space=strips_first_space,
        unknown_id=_id(metadata, "unknown_token_id", len(vocabulary.tokens)),
    )


def _plain(user_defined: Mapping[str, int], spelling: Spelling) -> Iterable[int]:
    """Return the user-defined tokens that are their own text. SentencePiece writes their spaces as those of others."""
    return user_defined.values() if spelling is Spelling.BYTE_LEVEL else ()


def _vocabulary(metadata: Mapping[str, Any]) -> _Vocabulary:
    tokens = _strings(metadata, "tokens")
    listed = _numbers(metadata, "token_type", len(tokens)) if _PREFIX + "token_type" in metadata else []
    kinds = {index: int(kind) for index, kind in enumerate(listed) if kind != _NORMAL}
    for index, kind in kinds.items():
        if kind == _Kind.USER_DEFINED and looks_like_control(tokens[index]):
            kinds[index] = _Kind.CONTROL
    for name in ("bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id"):
        # Some converters forget to say that these are control tokens.
        named = _id(metadata, name, len(tokens))
        if named is not None and kinds.get(named, _NORMAL) in (_NORMAL, _Kind.USER_DEFINED):
            kinds[named] = _Kind.CONTROL
    return _Vocabulary(tokens, kinds)


def _control_tokens(vocabulary: _Vocabulary) -> dict[str, ControlToken]:
    indices = vocabulary.ids(_Kind.CONTROL, _Kind.UNKNOWN)
    found: dict[str, ControlToken] = {}
    for index in indices:
        spelling = vocabulary.tokens[index]
        if spelling:
            found.setdefault(spelling, ControlToken(index, spelling))
    return found


def _ends(
    metadata: Mapping[str, Any], vocabulary: _Vocabulary, control: Mapping[str, ControlToken], *, adds_bos: bool
) -> Ends:
    named = (_id(metadata, name, len(vocabulary.tokens)) for name in ("eos_token_id", "eot_token_id", "eom_token_id"))
    known = (token.id for spelling, token in control.items() if spelling in TURN_ENDS)
    bos_id = _id(metadata, "bos_token_id", len(vocabulary.tokens))
    adds_bos = bool(metadata.get(_PREFIX + "add_bos_token", adds_bos)) and bos_id is not None
    eos_ids = frozenset(index for index in (*named, *known) if index is not None)
    eos_id = _id(metadata, "eos_token_id", len(vocabulary.tokens))
    adds_eos = bool(metadata.get(_PREFIX + "add_eos_token", False)) and eos_id is not None
    return Ends(bos_id, eos_id, eos_ids, adds_bos, adds_eos)


def _pre_name(metadata: Mapping[str, Any], vocabulary: _Vocabulary) -> str:
    """Return the name of the pre-tokenizer; files of early 2024 have none, and Llama 3's among them can be told."""
    name = metadata.get(_PREFIX + "pre")
    if isinstance(name, str):
        return name
    control = vocabulary.ids(_Kind.CONTROL)
    is_llama_3 = any(vocabulary.tokens[index] == "<|begin_of_text|>" for index in control)
    return "llama-bpe" if is_llama_3 else "default"


def _split_merges(lines: Sequence[str]) -> list[tuple[str, str]]:
    # Joined and cut as one text: line by line takes four times as long for 280,000 merges. A line that is not two
    # tokens shifts what follows, and the library refuses pairs that are no tokens.
    tokens = " ".join(lines).split(" ")
    if lines and len(tokens) != 2 * len(lines):
        raise BadVocabulary(
            f"tokenizer.ggml.merges: {len(lines)} merges must hold {2 * len(lines)} tokens, not {len(tokens)}"
        )
    return list(zip(tokens[0::2], tokens[1::2], strict=False))


def _merges_by_score(metadata: Mapping[str, Any], vocabulary: _Vocabulary) -> list[tuple[str, str]]:
    scores = _numbers(metadata, "scores", len(vocabulary.tokens))
    normal = [index for index, token in enumerate(vocabulary.tokens) if token and index not in vocabulary.kinds]
    normal.sort(key=lambda index: -scores[index])
    pieces = list({vocabulary.tokens[index]: None for index in normal})
    lefts, rights = cuts_of([piece.encode("utf-8") for piece in pieces])
    return [(pieces[left], pieces[right]) for left, right in zip(lefts, rights, strict=True)]


def _bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]], **options: Any) -> BPE:
    """Build the library's model, which checks that the merges stay within the vocabulary."""
    from tokenizers.models import BPE

    try:
        return BPE(vocabulary, merges, **options)
    except Exception as error:  # the library raises nothing narrower
        raise BadVocabulary(f"the merges do not fit the vocabulary: {error}") from error


def _id(metadata: Mapping[str, Any], name: str, num_tokens: int) -> int | None:
    value = metadata.get(_PREFIX + name)
    if value is None:
        return None
    if not isinstance(value, SupportsIndex):
        raise BadVocabulary(f"tokenizer.ggml.{name} is {value!r}, which is no token id")
    index = int(value)
    if not 0 <= index < num_tokens:
        raise BadVocabulary(f"tokenizer.ggml.{name} is {index}, but there are {num_tokens} tokens")
    return index


def _strings(metadata: Mapping[str, Any], name: str) -> list[str]:
    values = list(_get(metadata, name, Iterable))
    if not set(map(type, values)) <= {str}:
        raise BadVocabulary(f"tokenizer.ggml.{name} must hold strings only")
    return values


def _numbers(metadata: Mapping[str, Any], name: str, count: int) -> list[float]:
    """Return one number for each token."""
    values = list(_get(metadata, name, Iterable))
    if len(values) != count:
        raise BadVocabulary(f"tokenizer.ggml.{name} has {len(values)} entries, but there are {count} tokens")
    try:
        return list(map(float, values))
    except (TypeError, ValueError) as error:
        raise BadVocabulary(f"tokenizer.ggml.{name} must hold numbers only: {error}") from error


def _get(metadata: Mapping[str, Any], name: str, kind: type) -> Any:
    value = metadata.get(_PREFIX + name)
    if not isinstance(value, kind):
        raise BadVocabulary(f"the metadata has no usable tokenizer.ggml.{name}", hint="convert the model again")
    return value
