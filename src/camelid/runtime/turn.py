"""One request through one model: render, encode, check, generate, and turn what comes back into events.

Everything above it (HTTP, console, library) speaks requests and events; the engine below speaks ids.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from camelid.engine.request import GenerateRequest
from camelid.errors import ContextOverflow, InvalidRequest
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Event,
    Finished,
    Generation,
    Message,
    Role,
    Started,
    Usage,
)

from .growing_answer import GrowingAnswer
from .model import LoadedModel


def chat(model: LoadedModel, request: ChatRequest) -> AsyncGenerator[Event, None]:
    """Yield the events of the assistant's next message.

    Raises TemplateError, ContextOverflow and what the engine raises (Overloaded, Unavailable, RequestsFailed), all
    before the first event; only the last two may come later as well.
    """

    def encode() -> list[int]:
        _check_generates(model, "chat")
        return encode_chat(model, request)

    def answer(choice: int) -> GrowingAnswer:
        return GrowingAnswer(choice, model.text.tokenizer, request.generation, tools=request.tools)

    return _turn(model, request.generation, encode, answer)


def encode_chat(model: LoadedModel, request: ChatRequest) -> list[int]:
    """Return the ids of a conversation's prompt. Raises TemplateError."""
    messages = _begun(model, request.messages)
    return model.text.tokenizer.encode_prompt(model.text.template.render(messages, request.tools))


def _begun(model: LoadedModel, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a conversation with the beginning that a stored model gives it; a system message of its own counts."""
    files = model.description.files
    given = tuple(Message(cast("Role", role), text) for role, text in files.messages)
    if messages and messages[0].role == "system":
        return (messages[0], *given, *messages[1:])
    system = (Message("system", files.system),) if files.system else ()
    return (*system, *given, *messages)


def complete(model: LoadedModel, request: CompletionRequest) -> AsyncGenerator[Event, None]:
    """Yield the events of a text that goes on where the prompt ends. Raises as `chat` does, but for TemplateError.

    A prompt of text is all the caller's own, so a control token that is spelled out in it is a control token.
    """

    def encode() -> list[int]:
        _check_generates(model, "generate")
        if not isinstance(request.prompt, str):
            return list(request.prompt)
        tokenizer = model.text.tokenizer
        ids = tokenizer.encode(request.prompt, parse_special=True, with_bos=True)
        return [tokenizer.bos_id] if not ids and tokenizer.bos_id is not None else ids

    def answer(choice: int) -> GrowingAnswer:
        return GrowingAnswer(choice, model.text.tokenizer, request.generation, continues_text=True)

    return _turn(model, request.generation, encode, answer)


def _check_generates(model: LoadedModel, what: str) -> None:
    if model.description.spec.encoder is not None:
        raise InvalidRequest(f'"{model.name}" does not support {what}', field="model", hint="it makes embeddings")


async def _turn(
    model: LoadedModel, generation: Generation, encode: Callable[[], list[int]], answer: Callable[[int], GrowingAnswer]
) -> AsyncGenerator[Event, None]:
    prompt = await asyncio.to_thread(encode)  # a long one takes a while, and other requests are being served
    request = generate_request(prompt, generation, model)
    answers = [answer(choice) for choice in range(generation.num_choices)]
    started: Started | None = None
    async with aclosing(model.engine.generate(request)) as tokens:
        async for token in tokens:
            if started is None:
                started = Started(len(prompt), token.cached_tokens)
                yield started
            current = answers[token.choice]
            if current.finished is not None:
                continue  # it was on its way when a stop string was hit
            events = list(current.take(token))
            if current.finished is not None:
                if token.finish is None:
                    model.engine.stop_choice(request.id, token.choice)
                events.append(_with_usage(current.finished, started, answers))
            for event in events:
                yield event


def _with_usage(finished: Finished, started: Started, answers: list[GrowingAnswer]) -> Finished:
    """Return the end of an answer, with the usage of the whole request if it is the last."""
    if any(answer.finished is None for answer in answers):
        return finished
    num_tokens = sum(answer.num_tokens for answer in answers)
    return replace(finished, usage=Usage(started.prompt_tokens, num_tokens, started.cached_tokens))


def generate_request(prompt: list[int], generation: Generation, model: LoadedModel) -> GenerateRequest:
    """Return what the engine is asked for. Raises ContextOverflow.

    More tokens than the context has room for may be asked for, as clients with a fixed `max_tokens` do: the answer then
    ends with LENGTH when the context is full.
    """
    room = model.context_length - len(prompt)
    stopping = generation.stopping
    if room < 0:
        raise ContextOverflow(len(prompt), model.context_length)
    if room == 0:
        raise ContextOverflow(
            len(prompt) + 1, model.context_length, what="the prompt with the first token of an answer"
        )
    if stopping.min_tokens > room:
        raise ContextOverflow(
            len(prompt) + stopping.min_tokens, model.context_length, what="prompt and shortest answer"
        )
    return GenerateRequest(
        id=secrets.token_hex(8),
        prompt=tuple(prompt),
        sampling=generation.sampling,
        max_tokens=room if stopping.max_tokens is None else min(stopping.max_tokens, room),
        min_tokens=stopping.min_tokens,
        end_ids=frozenset() if stopping.ignore_eos else model.text.tokenizer.eos_ids,
        num_choices=generation.num_choices,
        top_logprobs=generation.top_logprobs,
    )
