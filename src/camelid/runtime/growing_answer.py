"""One answer while its tokens arrive: ids to text, stop strings, tool calls, scores, and when it is over.

Token borders, character borders and the borders of stop strings and tool calls never agree; this is where they are
brought together. It knows no engine: tokens in, events out.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from camelid.engine.request import Token
from camelid.text.detokenize import Detokenizer
from camelid.text.stops import StopMatcher
from camelid.text.tokenizer import Tokenizer
from camelid.text.toolcalls import PYTHON_TAG, Piece, TaggedCallSplitter, TextPiece, ToolCallSplitter
from camelid.types import Event, Finished, FinishReason, Generation, Text, TokenScore, ToolCall, ToolCalled, ToolSpec


class GrowingAnswer:
    """One choice of a request. Take its tokens until `finished` is set."""

    def __init__(
        self,
        choice: int,
        tokenizer: Tokenizer,
        generation: Generation,
        *,
        tools: Sequence[ToolSpec] = (),
        call_tag: str | None = None,
        has_grammar: bool = False,
        allows_several: bool = True,
        continues_text: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin an answer that may call `tools`, several times or once, or that goes on with the text of the prompt
        (`continues_text`). From now on its time runs, if it has a limit.

        call_tag: what a call begins with, None for the forms of Llama 3.1. has_grammar: a grammar holds the calls to
        one form.
        """
        stopping = generation.stopping
        shown = _shown(tokenizer, call_tag) if tools else frozenset[int]()
        self._ids: list[int] = []
        self.finished: Finished | None = None
        self._choice = choice
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, continues_text=continues_text, shown=shown)
        self._splitter = _splitter([tool.name for tool in tools], call_tag, has_grammar) if tools else None
        self._stops = StopMatcher(stopping.stop)
        self._is_plain = not (tools or stopping.stop)
        self._min_tokens = stopping.min_tokens
        self._end_ids = frozenset() if stopping.ignore_eos else tokenizer.eos_ids
        self._scores: list[TokenScore] = []  # of tokens whose text has not been shown yet
        self._num_calls = 0
        self._most_calls = None if allows_several else 1
        self._clock_s = clock_s
        self._deadline_s = math.inf if stopping.max_seconds is None else clock_s() + stopping.max_seconds

    @property
    def num_tokens(self) -> int:
        """Tokens that were taken."""
        return len(self._ids)

    def take(self, token: Token) -> list[Event]:
        """Take the next token in and return what it makes certain, without `Finished`, which needs the usage."""
        self._ids.append(token.id)
        if token.finish is None and self._deadline_s < math.inf and self._clock_s() > self._deadline_s:
            token = replace(token, finish=FinishReason.LENGTH)
        if self._is_plain and token.finish is None and token.logprob is None and token.id not in self._end_ids:
            text = self._detokenizer.push((token.id,))  # nearly all tokens: nothing is watched for, and nothing ends
            return [Text(text, self._choice)] if text else []
        text = ""
        if token.id not in self._end_ids:
            self._note_score(token)
            text = self._detokenizer.push([token.id])
        if token.finish is not None:
            text += self._detokenizer.flush()
        text, stop = self._watch(text, is_last=token.finish is not None)
        reason = FinishReason.STOP if stop is not None else token.finish
        events: list[Event] = []
        for piece in self._split(text, is_last=reason is not None):
            events.append(self._show(piece))
            if self._num_calls == self._most_calls:
                reason = FinishReason.STOP
                break
        if reason is not None:
            is_calling = self._num_calls > 0 and reason is FinishReason.STOP
            reason = FinishReason.TOOL_CALLS if is_calling else reason
            self.finished = Finished(reason, self._choice, stop=stop, score=token.score, ids=tuple(self._ids))
        return events

    def cut_off(self, token: Token) -> list[Event]:
        """End the answer in place of its next token, which was computed but is not shown."""
        self._ids.append(token.id)
        self.finished = Finished(FinishReason.CONTENT_FILTER, self._choice)
        return []

    def _watch(self, text: str, *, is_last: bool) -> tuple[str, str | None]:
        """Return the text that is before any stop string, and the stop string. Before min_tokens there is none."""
        if self.num_tokens <= self._min_tokens:
            return text, None
        text, stop = self._stops.push(text)
        if is_last and stop is None:
            text += self._stops.flush()
        return text, stop

    def _split(self, text: str, *, is_last: bool) -> list[Piece]:
        if self._splitter is None:
            return [TextPiece(text)] if text else []
        return self._splitter.push(text) + (self._splitter.finish() if is_last else [])

    def _show(self, piece: Piece) -> Event:
        if isinstance(piece, TextPiece):
            scores, self._scores = tuple(self._scores), []
            return Text(piece.text, self._choice, scores)
        self._num_calls += 1
        self._scores = []  # those of a call's tokens are nobody's text
        call = ToolCall(f"call_{secrets.token_hex(12)}", piece.name, piece.arguments)
        return ToolCalled(call, self._num_calls - 1, self._choice)

    def _note_score(self, token: Token) -> None:
        if token.logprob is not None:
            top = tuple(self._score(token_id, logprob) for token_id, logprob in token.top)
            self._scores.append(self._score(token.id, token.logprob, top))

    def _score(self, token_id: int, logprob: float, top: tuple[TokenScore, ...] = ()) -> TokenScore:
        return TokenScore(token_id, self._tokenizer.token_bytes(token_id), logprob, top)


def _shown(tokenizer: Tokenizer, call_tag: str | None) -> frozenset[int]:
    """Return the control tokens that a call begins with: they are spelled out, for the splitter to see."""
    tag = call_tag or PYTHON_TAG
    return frozenset(token.id for spelling, token in tokenizer.control.items() if spelling in tag)


def _splitter(tools: Sequence[str], call_tag: str | None, has_grammar: bool) -> ToolCallSplitter | TaggedCallSplitter:
    if call_tag is None:
        return ToolCallSplitter(tools, has_grammar=has_grammar)
    return TaggedCallSplitter(call_tag, tools)
