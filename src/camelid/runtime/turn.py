"""One request through one model: render, encode, check, generate, and turn what comes back into events.

Everything above it (HTTP, console, library) speaks requests and events; the engine below speaks ids.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import cast

from camelid.engine.beam_group import most_answer
from camelid.engine.guidance import most_guided_answer
from camelid.engine.request import GenerateRequest, Token
from camelid.errors import ContextOverflow, InvalidRequest
from camelid.text.continuing import render_open
from camelid.text.go_template import GoTemplate
from camelid.text.templates import ChatTemplate, call_tag
from camelid.text.tokenizer import Tokenizer
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Echo,
    Event,
    Generation,
    Message,
    Role,
    Stopping,
)

from .grammars import binds_calls, chat_grammar, prepare, teach
from .growing_answer import GrowingAnswer
from .growing_answers import GrowingAnswers
from .model import LoadedModel
from .plain_prompt import check_ids, echo, encode_plain


def chat(model: LoadedModel, request: ChatRequest, cut: Collection[int] = ()) -> AsyncGenerator[Event, None]:
    """Yield the events of the assistant's next message. A choice that is in `cut` ends with its next token.

    Raises TemplateError, ContextOverflow and what the engine raises (Overloaded, Unavailable, RequestsFailed), all
    before the first event; only the last two may come later as well.
    """

    generation = _with_makers(model, request.generation)

    def encode() -> list[int]:
        _check_generates(model, "chat")
        return encode_chat(model, request)

    def answer(choice: int) -> GrowingAnswer:
        return GrowingAnswer(
            choice,
            model.text.tokenizer,
            generation,
            tools=request.tools,
            call_tag=call_tag(model.text.template),
            has_grammar=binds_calls(request),
            allows_several=request.tool_choice.allows_several,
            continues_text=request.continues_last,
        )

    async def grammar() -> str | None:
        return await prepare(model, await chat_grammar(model, request))

    return _turn(model, generation, encode, answer, grammar, cut=cut)


def encode_chat(model: LoadedModel, request: ChatRequest, *, add_generation_prompt: bool = True) -> list[int]:
    """Return the ids of a conversation's prompt, with the beginning of the answer or without. Raises TemplateError."""
    messages = request.messages if request.before else _begun(model, request.messages)
    template = _template(model, request.template)
    if request.continues_last:
        prompt = render_open(template, messages, request.tools)
    else:
        prompt = template.render(messages, request.tools, add_generation_prompt=add_generation_prompt)
    return _after(model.text.tokenizer, request.before, model.text.tokenizer.encode_prompt(prompt))


def _after(tokenizer: Tokenizer, before: tuple[int, ...], prompt: list[int]) -> list[int]:
    """Return a prompt with what stands before it; a text begins once. Raises InvalidRequest for ids that are none."""
    check_ids(tokenizer, before, "context")
    begins_anew = bool(before) and prompt[:1] == [tokenizer.bos_id]
    return [*before, *prompt[begins_anew:]]


def _template(model: LoadedModel, source: str | None) -> ChatTemplate:
    """Return the model's template, or the one that a request brings. Raises TemplateError."""
    return model.text.template if source is None else GoTemplate(source, model.text.tokenizer)


def _with_makers(model: LoadedModel, generation: Generation) -> Generation:
    """Return what is asked for, with the makers' stop strings and longest answer where nothing is said of these."""
    asked, makers = generation.stopping, model.text.stopping
    says_nothing = asked.max_tokens is None and asked.max_length is None
    max_tokens = makers.max_tokens if says_nothing else asked.max_tokens
    if max_tokens is not None:
        max_tokens = max(max_tokens, asked.min_tokens)
    return replace(generation, stopping=replace(asked, stop=asked.stop or makers.stop, max_tokens=max_tokens))


def _begun(model: LoadedModel, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a conversation with the beginning that a stored model gives it; a system message of its own counts."""
    files = model.description.files
    given = tuple(Message(cast("Role", role), text) for role, text in files.messages)
    if messages and messages[0].role == "system":
        return (messages[0], *given, *messages[1:])
    system = (Message("system", files.system),) if files.system else ()
    return (*system, *given, *messages)


def complete(model: LoadedModel, request: CompletionRequest, cut: Collection[int] = ()) -> AsyncGenerator[Event, None]:
    """Yield the events of a text that goes on where the prompt ends. Raises as `chat` does, but for TemplateError, and
    InvalidRequest where the model is to fill in and cannot.
    """
    tokenizer = model.text.tokenizer

    generation = _with_makers(model, request.generation)

    def encode() -> list[int]:
        _check_generates(model, "generate")
        return encode_plain(tokenizer, _template(model, request.template), request)

    def answer(choice: int) -> GrowingAnswer:
        return GrowingAnswer(choice, tokenizer, generation, continues_text=True)

    async def grammar() -> str | None:
        return await prepare(model, generation.grammar)

    def given_back(ids: list[int], token: Token) -> Echo:
        return echo(tokenizer, request, ids, token)

    return _turn(model, generation, encode, answer, grammar, given_back if request.echo else None, cut)


def _check_generates(model: LoadedModel, what: str) -> None:
    if model.description.spec.encoder is not None:
        raise InvalidRequest(f'"{model.name}" does not support {what}', field="model", hint="it makes embeddings")


async def _turn(
    model: LoadedModel,
    generation: Generation,
    encode: Callable[[], list[int]],
    answer: Callable[[int], GrowingAnswer],
    grammar: Callable[[], Awaitable[str | None]],
    given_back: Callable[[list[int], Token], Echo] | None = None,
    cut: Collection[int] = (),
) -> AsyncGenerator[Event, None]:
    source = await grammar()
    if generation.beams is not None and generation.stopping.stop:
        await teach(model)  # a search has to know itself where its answers end
    prompt = await asyncio.to_thread(encode)  # a long one takes a while, and other requests are being served
    request = generate_request(prompt, generation, model, source, scores_prompt=given_back is not None)
    back = None if given_back is None else partial(given_back, prompt)
    answers = GrowingAnswers([answer(choice) for choice in range(generation.num_choices)], prompt, back)
    async with aclosing(model.engine.generate(request)) as arriving:
        async for tokens in arriving:
            events = answers.take(tokens, cut)
            for choice in answers.given_up():
                model.engine.stop_choice(request.id, choice)
            for event in events:
                yield event


def generate_request(
    prompt: list[int],
    generation: Generation,
    model: LoadedModel,
    grammar: str | None = None,
    *,
    scores_prompt: bool = False,
) -> GenerateRequest:
    """Return what the engine is asked for; `grammar` is one that `prepare` made. Raises ContextOverflow.

    More tokens than the context has room for may be asked for, as clients with a fixed `max_tokens` do: the answer then
    ends with LENGTH when the context is full.
    """
    guide = _guide(generation, model)
    room = model.context_length - len(prompt)
    stopping = generation.stopping
    if room < 0:
        raise ContextOverflow(len(prompt), model.context_length)
    if room == 0:
        raise ContextOverflow(
            len(prompt) + 1, model.context_length, what="the prompt with the first token of an answer"
        )
    room = min(room, max(model.context_length - len(guide), 1))
    max_tokens = _max_tokens(
        stopping, len(prompt), min(room, _room_in_pages(model, generation, len(prompt), guide)), room
    )
    min_tokens = max(stopping.min_tokens, stopping.min_length - len(prompt))
    if min_tokens > room:
        raise ContextOverflow(len(prompt) + min_tokens, model.context_length, what="prompt and shortest answer")
    return GenerateRequest(
        id=secrets.token_hex(8),
        prompt=tuple(prompt),
        sampling=generation.sampling,
        max_tokens=max_tokens,
        min_tokens=min(min_tokens, max_tokens),
        end_ids=_end_ids(model, stopping),
        num_choices=generation.num_choices,
        top_logprobs=generation.top_logprobs,
        grammar=grammar,
        rules=generation.rules,
        guide=guide,
        beams=generation.beams,
        stops=() if generation.beams is None else tuple(stop.encode() for stop in stopping.stop),
        max_seconds=None if generation.beams is None else stopping.max_seconds,
        adapter="" if model.adapter is None else model.adapter.key,
        scores_prompt=scores_prompt and generation.gives_scores,
    )


def _guide(generation: Generation, model: LoadedModel) -> tuple[int, ...]:
    """Return the ids of the prompt that guides, if one is given. It is all the caller's own, as a plain prompt is."""
    given = () if generation.rules is None else generation.rules.negative_prompt
    if isinstance(given, str):
        return tuple(model.text.tokenizer.encode(given, parse_special=True, with_bos=True))
    return given


def _room_in_pages(model: LoadedModel, generation: Generation, num_prompt: int, guide: tuple[int, ...]) -> int:
    """Return how long the answer may be where nothing is asked for: so long that all its sequences fit into the cache
    together.
    """
    num_pages = model.description.sizing.num_pages
    most = model.context_length
    if generation.beams is not None:
        most = most_answer(num_prompt, generation.beams.num_beams, num_pages)
    elif generation.rules is not None and generation.rules.guides:
        num_guide = max(len(guide), 1)
        most = min(most_guided_answer(num_prompt, num_guide, num_pages), model.context_length - num_guide)
    return max(most, 1)


def _max_tokens(stopping: Stopping, num_prompt: int, unasked: int, room: int) -> int:
    """Return how long the answer may be, given `room` for it, of which it gets `unasked` where nothing is said. Raises
    InvalidRequest.
    """
    if stopping.max_tokens is not None:
        return min(stopping.max_tokens, room)
    if stopping.max_length is None:
        return unasked
    if stopping.max_length <= num_prompt:
        raise InvalidRequest(
            f"max_length counts the prompt, which has {num_prompt} tokens: it must be more, got {stopping.max_length}",
            field="max_length",
        )
    return min(stopping.max_length - num_prompt, room)


def _end_ids(model: LoadedModel, stopping: Stopping) -> frozenset[int]:
    """Return the tokens that end an answer: the vocabulary's, and control tokens that are stop strings.

    Control tokens are silent, so the text would never show such a stop. A request may name others in place of the
    vocabulary's.
    """
    tokenizer = model.text.tokenizer
    stops = frozenset(tokenizer.control[stop].id for stop in stopping.stop if stop in tokenizer.control)
    if stopping.ignore_eos:
        return stops
    return (tokenizer.eos_ids if stopping.end_ids is None else frozenset(stopping.end_ids)) | stops
