"""Text and chat completion by the names, defaults and results of Meta's own code.

Programs written for Meta's repositories call `Llama.text_completion` and `Llama.chat_completion` and read dictionaries.
Pure functions: arguments to requests, answers to results. Source: generation.py of meta-llama/llama3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from camelid.errors import InvalidRequest
from camelid.text.tokenizer import Tokenizer
from camelid.types import MAX_SEED, ChatRequest, CompletionRequest, Generation, Message, Sampling, Stopping, TokenScore

from .asking import chat_request
from .collected import Answer


class TextResult(TypedDict):
    """The result for one prompt. The lists are there with `logprobs`."""

    generation: str
    tokens: NotRequired[list[str]]
    logprobs: NotRequired[list[float]]


class Said(TypedDict):
    """A message of the assistant."""

    role: str
    content: str


class ChatResult(TypedDict):
    """The result for one dialog. The lists are there with `logprobs`."""

    generation: Said
    tokens: NotRequired[list[str]]
    logprobs: NotRequired[list[float]]


@dataclass(frozen=True)
class MetaArguments:
    """What both calls may be given, as Meta's code names it.

    `max_gen_len` None lets an answer go on to the end of the context. The draws of entry i of a batch are those of
    `seed` + i.
    """

    temperature: float
    top_p: float
    max_gen_len: int | None
    logprobs: bool
    seed: int

    def generation(self, index: int) -> Generation:
        """Return what is asked for entry `index` of a batch. Raises InvalidRequest."""
        sampling = Sampling(self.temperature, top_p=self.top_p, seed=(self.seed + index) % (MAX_SEED + 1))
        if self.max_gen_len is not None and self.max_gen_len < 1:
            raise InvalidRequest(f"max_gen_len must be at least 1, got {self.max_gen_len}", field="max_gen_len")
        return Generation(sampling, Stopping(self.max_gen_len), top_logprobs=0 if self.logprobs else None)


def text_requests(
    model: str, tokenizer: Tokenizer, prompts: Sequence[str], arguments: MetaArguments, *, echo: bool
) -> list[CompletionRequest]:
    """Return a request for each prompt. As in Meta's code, a control token that is spelled out in one is plain text."""
    if isinstance(prompts, str):
        raise InvalidRequest("prompts must be a list of texts, got one text", field="prompts", hint="write [prompt]")
    return [
        CompletionRequest(model, tuple(tokenizer.encode(prompt, with_bos=True)), arguments.generation(index), echo=echo)
        for index, prompt in enumerate(prompts)
    ]


def chat_requests(
    model: str, dialogs: Sequence[Sequence[Message | Mapping[str, Any]]], arguments: MetaArguments
) -> list[ChatRequest]:
    """Return a request for each dialog, which is a list of messages."""
    return [chat_request(model, dialog, (), None, arguments.generation(index)) for index, dialog in enumerate(dialogs)]


def text_result(answer: Answer, *, logprobs: bool) -> TextResult:
    """Return an answer as Meta's code does, with the prompt in front where it was asked for."""
    echo, choice = answer.echo, answer.choices[0]
    result = TextResult(generation=(echo.text if echo else "") + choice.text)
    if logprobs:
        first = [_shown(echo.first)] if echo and echo.first is not None else []
        scores = (*(echo.scores if echo else ()), *choice.scores)
        result["tokens"] = first + _tokens(scores)
        result["logprobs"] = [0.0] * len(first) + [score.logprob for score in scores]
    return result


def chat_result(answer: Answer, *, logprobs: bool) -> ChatResult:
    """Return an answer as Meta's code does."""
    result = ChatResult(generation={"role": "assistant", "content": answer.text})
    if logprobs:
        result["tokens"] = _tokens(answer.choices[0].scores)
        result["logprobs"] = [score.logprob for score in answer.choices[0].scores]
    return result


def _tokens(scores: Sequence[TokenScore]) -> list[str]:
    return [_shown(score.piece) for score in scores]


def _shown(piece: bytes) -> str:
    return piece.decode(errors="replace")
