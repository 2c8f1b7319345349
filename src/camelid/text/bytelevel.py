"""The alphabet of byte-level BPE: each of the 256 bytes is written as one visible character.

Separate because the builders (bytes to characters) and the byte table of the tokenizer (characters to bytes) both need
it.
Source: the encoder of GPT-2 (Radford et al. 2019); every byte-level vocabulary since uses the same table.
"""

from __future__ import annotations

import re

# Bytes that are visible Latin-1 characters stand for themselves; the other 68 take the code points from 256 on, in
# order.
_VISIBLE = frozenset((*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))
_HIDDEN = tuple(byte for byte in range(256) if byte not in _VISIBLE)
_BYTE_OF_CHARACTER = {chr(byte): byte for byte in _VISIBLE} | {chr(256 + n): byte for n, byte in enumerate(_HIDDEN)}

# The character of byte 0, of byte 1, …: 256 characters, so that an array of bytes indexes it.
ALPHABET = "".join(sorted(_BYTE_OF_CHARACTER, key=_BYTE_OF_CHARACTER.__getitem__))

# What a vocabulary needs to write any valid UTF-8, in which 0xC0, 0xC1 and 0xF5 to 0xFF never occur.
REQUIRED = frozenset(ALPHABET[:0xC0] + ALPHABET[0xC2:0xF5])


_WRITTEN = re.compile(f"[{re.escape(ALPHABET)}]*")
_TO_LATIN = {ord(character): byte for character, byte in _BYTE_OF_CHARACTER.items()}


def to_bytes(text: str) -> bytes:
    """Read text of the alphabet back; a text with any other character stands for its own UTF-8."""
    if text.isascii() or _WRITTEN.fullmatch(text) is None:  # in ASCII the two are the same
        return text.encode("utf-8", errors="replace")
    return text.translate(_TO_LATIN).encode("latin-1")
