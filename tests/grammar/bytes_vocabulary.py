"""A small vocabulary for tests: every byte, some longer tokens, two control tokens that end an answer, one that does
not."""

from __future__ import annotations

from functools import cache

from camelid.grammar import Compiler, Vocabulary

LONGER = (b'{"', b'":', b'": ', b", ", b'", "', b"name", b"true", b"null", b"12", b"\xc3\xbc", b"  ", b'"}')
END, OTHER_END, CONTROL = 256 + len(LONGER), 257 + len(LONGER), 258 + len(LONGER)
TOKENS = (*(bytes([byte]) for byte in range(256)), *LONGER, b"<|end|>", b"<|stop|>", b"<|start|>", b"")
VOCABULARY = Vocabulary(TOKENS, (END, OTHER_END, CONTROL), (END, OTHER_END))


@cache
def compiler() -> Compiler:
    """Return one compiler for all tests: sorting the vocabulary takes the time."""
    return Compiler(VOCABULARY)


def ids_of(text: str) -> list[int]:
    """Return a text as bytes."""
    return list(text.encode())


def allowed(mask: bytes | None) -> set[int]:
    """Return the ids that a mask lets through."""
    assert mask is not None
    return {token for token in range(len(TOKENS)) if mask[token // 8] >> token % 8 & 1}
