"""The tokenizer: text to token ids and ids back to bytes, over the `tokenizers` library.

The library cuts and merges ordinary text; control tokens are looked for here and never in text from outside, so that a
user who types `<|eot_id|>` gets the tokens of those nine characters. Builders for GGUF, tokenizer.json and Meta's file
are in the `from_*` modules beside this one. Nothing here knows models or templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from camelid.errors import BadVocabulary

from .bytelevel import to_bytes
from .prompt import Prompt, protected_characters

if TYPE_CHECKING:
    import tokenizers

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = r"[^\S\x1c-\x1f]*"  # Unicode's White_Space, which the library means too; Python's \s has four characters more

# Spellings of the tokens that end a turn, in the families that Camelid reads. A vocabulary that has one as a control
# token means it so, and generation_config.json or GGUF metadata often name only one of several.
TURN_ENDS = (
    frozenset(
        ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|eot|>", "<|eom|>", "<|im_end|>", "<|endoftext|>", "<|end|>")
    )
    | frozenset(("<|end_of_turn|>", "<|return|>", "<|call|>", "<end_of_turn>", "<EOT>", "▁<EOT>", "</s>"))
    | frozenset(("<｜end▁of▁sentence｜>",))
)


_SHAPE = re.compile(r"<[|｜][^\s|｜]+[|｜]>")


def looks_like_control(spelling: str) -> bool:
    """Tell whether a token that a vocabulary calls an added word is a control token by its looks, as `<|im_start|>`.

    Some fine-tuned models declare the tokens of their chat format as words, and then any user could write them.
    """
    return spelling in TURN_ENDS or _SHAPE.fullmatch(spelling) is not None


class Spelling(Enum):
    """How a vocabulary writes the bytes of an ordinary token."""

    BYTE_LEVEL = "byte-level"  # one character of GPT-2's alphabet for each byte
    SENTENCE_PIECE = "sentencepiece"  # text with ▁ for a space, and <0xAB> for a byte that no text token covers


@dataclass(frozen=True)
class ControlToken:
    """A token that only templates and models write. `strips_*`: white space beside it belongs to it."""

    id: int
    spelling: str
    strips_left: bool = False
    strips_right: bool = False


@dataclass(frozen=True)
class Ends:
    """The ids that begin a text and end an answer.

    eos_id: the one of `eos_ids` that the vocabulary itself names. adds_bos: raw text is meant to start with `bos_id`.
    adds_eos: a text that is to be read as a whole, and not continued, is meant to end with `eos_id`.
    between: what comes behind the first text of a pair beside its end.
    """

    bos_id: int | None = None
    eos_id: int | None = None
    eos_ids: frozenset[int] = frozenset()
    adds_bos: bool = False
    adds_eos: bool = False
    between: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A vocabulary with its rules.

    core: encodes text in which nothing is a control token. `core_after_control` does so for text that follows a control
    token; it differs only where a space is put before the very first word of a text and nowhere else.
    token: the vocabulary's own writing of an id, None for an id without a token.
    plain_ids: ids of tokens that are written as themselves, in no alphabet (control tokens and user-defined ones).
    """

    core: tokenizers.Tokenizer
    core_after_control: tokenizers.Tokenizer
    token: Callable[[int], str | None]
    spelling: Spelling
    vocab_size: int
    control: Mapping[str, ControlToken]
    ends: Ends
    plain_ids: frozenset[int] = frozenset()
    strips_first_space: bool = False
    unknown_id: int | None = None
    _bytes: dict[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text, if the vocabulary has one."""
        return self.ends.bos_id

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end an answer: end of text, of turn and of message."""
        return self.ends.eos_ids

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """The ids that no text from outside ever yields. The unknown token is none of them: it has no power."""
        return frozenset(token.id for token in self.control.values()) - {self.unknown_id}

    @cached_property
    def protected(self) -> str:
        """Characters of which every control token has at least one; templates mark them in text from outside."""
        return protected_characters(self.control)

    def encode(
        self, text: str, *, parse_special: bool = False, with_bos: bool = False, after_control: bool = False
    ) -> list[int]:
        """Return the ids of a text.

        parse_special: take spellings of control tokens for the tokens, as for a prompt written by the operator.
        with_bos: put the id that begins a text in front, where the vocabulary asks for it and the text has none.
        after_control: the text follows a control token; only for text without any of its own.
        """
        bos = [self.bos_id] if with_bos and self.ends.adds_bos and self.bos_id is not None else []
        if not parse_special:
            return bos + self._encode_plain(text, self.core_after_control if bos or after_control else self.core)
        ids = self._encode_control(text, lambda piece: piece)
        return ids if ids[:1] == bos else bos + ids

    def encode_whole(self, text: str) -> list[int]:
        """Return the ids of a text that is not going to be continued, with what the vocabulary wants around it."""
        eos = [self.ends.eos_id] if self.ends.adds_eos and self.ends.eos_id is not None else []
        return self.encode(text, with_bos=True) + eos

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Return the ids of a rendered prompt: the template's control tokens are tokens, all other text is text."""
        return self._encode_control(prompt.marked, prompt.marks.unmark)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for: its spelling if it is a control token, none for an unused id."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._spell_out(token_id)
        return known

    def spelling_of(self, token_id: int | None) -> str:
        """Return a token as text, empty for None: what templates know as `bos_token` and `eos_token`."""
        return "" if token_id is None else self.token_bytes(token_id).decode("utf-8", errors="replace")

    def check_rows(self, rows: int) -> None:
        """Raise BadVocabulary if the embedding has fewer rows than the vocabulary has tokens; more is padding."""
        if rows < self.vocab_size:
            raise BadVocabulary(
                f"the tokenizer has {self.vocab_size} tokens, but the embedding has only {rows} rows",
                hint="use the tokenizer that belongs to these weights",
            )

    def _spell_out(self, token_id: int) -> bytes:
        text = self.token(token_id) if 0 <= token_id < self.vocab_size else None
        if text is None:
            return b""
        if token_id in self.plain_ids:
            return text.encode("utf-8", errors="replace")
        if self.spelling is Spelling.BYTE_LEVEL:
            return to_bytes(text)
        byte = _BYTE_TOKEN.fullmatch(text)
        return bytes.fromhex(byte[1]) if byte else text.replace("▁", " ").encode("utf-8", errors="replace")

    def _encode_control(self, marked: str, unmark: Callable[[str], str]) -> list[int]:
        """Encode text in which control tokens count; `unmark` makes the pieces between them what was meant."""
        ids: list[int] = []
        core = self.core
        for piece, control_id in self._split(marked):
            if piece:
                ids += self._encode_plain(unmark(piece), core)
            if control_id is not None:
                ids.append(control_id)
                core = self.core_after_control
        return ids

    def _split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yield each piece of text with the control token that follows it, None after the last."""
        start = 0
        for match in self._control_pattern.finditer(text) if self.control else ():
            yield text[start : match.start()], self._id_of(match.group())
            start = match.end()
        yield text[start:], None

    def _id_of(self, matched: str) -> int:
        token = self.control.get(matched) or self.control[matched.strip()]
        return token.id

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.control.values(), key=lambda token: len(token.spelling), reverse=True)
        return re.compile("|".join(map(_pattern_of, longest_first)))

    def _encode_plain(self, text: str, core: tokenizers.Tokenizer) -> list[int]:
        if not text:
            return []
        try:
            ids = core.encode_batch_fast([text], add_special_tokens=False)[0].ids
        except TypeError:  # the library takes no lone surrogates, which JSON can write and UTF-8 cannot
            whole = text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")
            ids = core.encode_batch_fast([whole], add_special_tokens=False)[0].ids
        return list(ids) if self.control_ids.isdisjoint(ids) else self._encode_around_control(text, core)

    def _encode_around_control(self, text: str, core: tokenizers.Tokenizer) -> list[int]:
        """Encode text that the library makes a control token of: cut every spelling of one in two."""
        ids: list[int] = []
        start = 0
        for match in self._control_pattern.finditer(text):
            cut = match.start() + 1
            ids += self._encode_below_control(text[start:cut], core)
            start = cut
        return ids + self._encode_below_control(text[start:], core)

    def _encode_below_control(self, text: str, core: tokenizers.Tokenizer) -> list[int]:
        ids = core.encode_batch_fast([text], add_special_tokens=False)[0].ids if text else []
        return [token_id for token_id in ids if token_id not in self.control_ids]  # left over: tokens of one character


def _pattern_of(token: ControlToken) -> str:
    left = _SPACE if token.strips_left else ""
    right = _SPACE if token.strips_right else ""
    return left + re.escape(token.spelling) + right
