"""Log-probabilities as OpenAI's clients read them: chat's nested form, and the four lists of plain completions.

Apart from the replies because three of them write scores. Pure.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from camelid.types import TokenScore

NO_CHANCE = -9999.0  # OpenAI's stand-in for a logarithm of zero, which JSON cannot write


class LegacyScores:
    """Writes the four parallel lists of plain completions; remembers how far into the text the answer is."""

    def __init__(self) -> None:
        self._offset = 0  # characters of the answer before the next token
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, scores: Iterable[TokenScore], first: bytes | None = None) -> dict[str, list[Any]]:
        """Return the lists for the next tokens. A token inside a character has the offset of that character.

        first: a token before them that nothing precedes, so that it has no score.
        """
        lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        if first is not None:
            self._add(lists, first, None, None)
        for score in scores:
            likeliest = {_legacy_piece(top.piece): finite(top.logprob) for top in score.top}
            self._add(lists, score.piece, finite(score.logprob), likeliest)
        return lists

    def _add(
        self, lists: dict[str, list[Any]], token: bytes, logprob: float | None, top: dict[str, float] | None
    ) -> None:
        lists["tokens"].append(_legacy_piece(token))
        lists["token_logprobs"].append(logprob)
        lists["top_logprobs"].append(top)
        lists["text_offset"].append(self._offset)
        self._offset += len(self._decoder.decode(token))


def chat_scores(scores: Iterable[TokenScore]) -> dict[str, Any]:
    """Return the scores of a chat answer as OpenAI writes them."""
    content = [_score(score) | {"top_logprobs": [_score(top) for top in score.top]} for score in scores]
    return {"content": content, "refusal": None}


def _score(score: TokenScore) -> dict[str, Any]:
    return {"token": piece(score), "logprob": finite(score.logprob), "bytes": list(score.piece)}


def piece(score: TokenScore) -> str:
    """Return a token's text; what is no whole character is shown as a replacement character."""
    return score.piece.decode("utf-8", "replace")


def _legacy_piece(token: bytes) -> str:
    """Return a token's text; for a part of a character its bytes, spelled as OpenAI does, so that two parts differ."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def finite(logprob: float) -> float:
    """Return a log-probability that JSON can write."""
    return max(logprob, NO_CHANCE)
