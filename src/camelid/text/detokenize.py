"""Token ids to text while they arrive, never half a character.

A character may be spread over several tokens, so bytes are held back until they are a character or certainly none; then
each broken run becomes U+FFFD, as when all bytes are decoded at once. Separate from the tokenizer because this has
state.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from .tokenizer import Tokenizer


class Detokenizer:
    """The text of one growing sequence of ids. However the ids are cut into pushes, the text is the same."""

    def __init__(
        self, tokenizer: Tokenizer, *, continues_text: bool = False, shown: frozenset[int] = frozenset()
    ) -> None:
        """Start a text.

        continues_text: the ids go on with a text rather than begin one. It matters for vocabularies that put a space
        before the first word: at the start of a text that space is not part of it.
        shown: control tokens that are spelled out, such as `<|python_tag|>` for who looks for tool calls; others are
        silent.
        """
        self._bytes_of = _TextBytes(tokenizer, shown)
        self._held = b""  # the beginning of a character
        self._drops_space = tokenizer.strips_first_space and not continues_text

    def push(self, ids: Iterable[int]) -> str:
        """Return the text that is certain once these ids have come; it may be empty."""
        data = b"".join(map(self._bytes_of.__getitem__, ids))
        if self._drops_space and data:
            data = data.removeprefix(b" ")
            self._drops_space = False
        return self._decode(data)

    def flush(self) -> str:
        """Return what is held back at the end: U+FFFD if the ids end within a character."""
        return self._decode(b"", is_last=True)

    def _decode(self, data: bytes, *, is_last: bool = False) -> str:
        data = self._held + data
        text, num_used = codecs.utf_8_decode(data, "replace", is_last)
        self._held = data[num_used:]
        return text


class _TextBytes(dict[int, bytes]):
    """Id to the bytes that show, filled as ids come by: a lookup costs 50 ns, the whole table would cost 100 ms."""

    def __init__(self, tokenizer: Tokenizer, shown: frozenset[int]) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._silent = tokenizer.control_ids - shown

    def __missing__(self, token_id: int) -> bytes:
        data = b"" if token_id in self._silent else self._tokenizer.token_bytes(token_id)
        self[token_id] = data
        return data


def decode(tokenizer: Tokenizer, ids: Iterable[int], *, continues_text: bool = False) -> str:
    """Return the text of a whole sequence of ids, control tokens left out."""
    detokenizer = Detokenizer(tokenizer, continues_text=continues_text)
    return detokenizer.push(ids) + detokenizer.flush()
