"""One request through one model whose engine is a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import pytest

from camelid.engine.request import GenerateRequest, Token
from camelid.errors import ContextOverflow, InvalidRequest, Overloaded, TemplateError
from camelid.runtime import turn
from camelid.runtime.adapters import ModelAdapters
from camelid.runtime.engine_port import EngineHealth
from camelid.runtime.frames import Adapt
from camelid.runtime.model import Description, LoadedModel, NoTemplate, TextSide
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Event,
    Finished,
    FinishReason,
    Generation,
    Message,
    Sampling,
    Started,
    Stopping,
    Text,
    Usage,
)

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
Scripted = tuple[int, str, FinishReason | None]  # choice, text of one token, finish


@dataclass
class ScriptedEngine:
    """Yields tokens of the script's texts; keeps what it was asked, told to stop, and whether it was let go."""

    text: TextSide
    script: list[Scripted]
    error: Exception | None = None
    asked: list[GenerateRequest] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    is_closed: bool = False
    backend: str = "script"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Token], None]:
        self.asked.append(request)
        counts = [0] * request.num_choices
        try:
            if self.error is not None:
                raise self.error
            for choice, text, finish in self.script:
                (token_id,) = self.text.tokenizer.encode(text, parse_special=True)
                yield [Token(request.id, choice, counts[choice], token_id, finish, cached_tokens=3)]
                counts[choice] += 1
        finally:
            self.is_closed = True

    async def adapt(self, adapt: Adapt) -> None:
        return

    def forget_adapter(self, key: str) -> None:
        return

    def stop_choice(self, request_id: str, choice: int) -> None:
        self.stopped.append(choice)

    def stats(self) -> Mapping[str, float]:
        return {}

    def health(self) -> EngineHealth:
        return EngineHealth(True, True, 0)

    async def close(self) -> None:
        return


def model(cria: Description, text: TextSide, *script: Scripted, error: Exception | None = None) -> LoadedModel:
    engine = ScriptedEngine(text, list(script), error)
    return LoadedModel(cria, text, engine, ModelAdapters(engine))


def engine_of(loaded: LoadedModel) -> ScriptedEngine:
    assert isinstance(loaded.engine, ScriptedEngine)
    return loaded.engine


def collect(events: AsyncGenerator[Event, None]) -> list[Event]:
    async def go() -> list[Event]:
        return [event async for event in events]

    return asyncio.run(go())


def chat(content: str = "Hi", **generation: object) -> ChatRequest:
    return ChatRequest("cria", (Message("user", content),), generation=Generation(**generation))  # type: ignore[arg-type]


def test_a_chat_starts_says_and_finishes_with_its_usage(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "4", None), (0, "2", None), (0, "<|eot_id|>", STOP))
    events = collect(turn.chat(loaded, chat()))
    (asked,) = engine_of(loaded).asked
    num_prompt = len(asked.prompt)
    assert events == [Started(num_prompt, 3), Text("4"), Text("2"), Finished(STOP, usage=Usage(num_prompt, 3, 3))]
    assert cria_text.tokenizer.encode_prompt(cria_text.template.render([Message("user", "Hi")])) == [*asked.prompt]


def test_what_is_asked_of_the_engine(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "4", LENGTH))
    sampling = Sampling(temperature=0.5, seed=9)
    stopping = Stopping(max_tokens=7, min_tokens=2)
    collect(turn.chat(loaded, chat(sampling=sampling, stopping=stopping, num_choices=2, top_logprobs=3)))
    (asked,) = engine_of(loaded).asked
    assert asked == GenerateRequest(
        asked.id, asked.prompt, sampling, 7, 2, cria_text.tokenizer.eos_ids, num_choices=2, top_logprobs=3
    )


def test_an_answer_goes_on_with_the_last_message(cria: Description, cria_text: TextSide) -> None:
    question, begun = Message("user", "hi"), Message("assistant", "Well, ")
    loaded = model(cria, cria_text, (0, "4", STOP))
    collect(turn.chat(loaded, ChatRequest("cria", (question,))))
    collect(turn.chat(loaded, ChatRequest("cria", (question, begun), continues_last=True)))
    fresh, going_on = engine_of(loaded).asked
    assert [*going_on.prompt] == [*fresh.prompt, *cria_text.tokenizer.encode("Well, ")]
    with pytest.raises(InvalidRequest, match="as the last message"):
        ChatRequest("cria", (question,), continues_last=True)


def test_without_max_tokens_an_answer_may_fill_the_context(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "4", LENGTH))
    collect(turn.chat(loaded, chat(stopping=Stopping(ignore_eos=True))))
    (asked,) = engine_of(loaded).asked
    assert (asked.max_tokens, asked.end_ids) == (loaded.context_length - len(asked.prompt), frozenset())


def test_a_longest_and_a_shortest_length_count_the_prompt(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "a", LENGTH))
    collect(turn.chat(loaded, chat(stopping=Stopping(max_length=100, min_length=90))))
    collect(turn.chat(loaded, chat(stopping=Stopping(max_tokens=3, max_length=100))))
    first, second = engine_of(loaded).asked
    num_prompt = len(first.prompt)
    assert (first.max_tokens, first.min_tokens) == (100 - num_prompt, 90 - num_prompt)
    assert second.max_tokens == 3
    with pytest.raises(InvalidRequest, match="max_length counts the prompt"):
        collect(turn.chat(loaded, chat(stopping=Stopping(max_length=num_prompt))))


def test_more_max_tokens_than_there_is_room_are_cut_to_the_room(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "4", LENGTH))
    collect(turn.chat(loaded, chat(stopping=Stopping(max_tokens=10**6))))
    (asked,) = engine_of(loaded).asked
    assert asked.max_tokens == loaded.context_length - len(asked.prompt)


def test_choices_are_told_apart_and_the_last_end_has_the_usage(cria: Description, cria_text: TextSide) -> None:
    script = [(0, "a", None), (1, "b", None), (1, "<|eot_id|>", STOP), (0, "c", LENGTH)]
    events = collect(turn.chat(model(cria, cria_text, *script), chat(num_choices=2)))
    started = events[0]
    assert isinstance(started, Started)
    assert events[1:] == [
        Text("a", 0),
        Text("b", 1),
        Finished(STOP, 1),
        Text("c", 0),
        Finished(LENGTH, 0, Usage(started.prompt_tokens, 4, 3)),
    ]


def test_a_stop_string_ends_one_choice_and_late_tokens_of_it_do_not_count(
    cria: Description, cria_text: TextSide
) -> None:
    script = [(0, "a", None), (0, ".", None), (0, "x", None), (1, "b", None), (1, "c", LENGTH)]
    loaded = model(cria, cria_text, *script)
    events = collect(turn.chat(loaded, chat(num_choices=2, stopping=Stopping(stop=(".",)))))
    assert engine_of(loaded).stopped == [0]
    assert events[1:3] == [Text("a", 0), Finished(STOP, 0, stop=".")]
    assert isinstance(events[-1], Finished)
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 4


def test_leaving_an_answer_lets_the_engine_go(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "a", None), (0, "b", None), (0, "c", LENGTH))

    async def go() -> None:
        events = turn.chat(loaded, chat())
        await anext(events)
        await events.aclose()

    asyncio.run(go())
    assert engine_of(loaded).is_closed


def test_an_error_of_the_engine_comes_before_any_event(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, error=Overloaded("the queue is full", retry_after_s=2.0))
    with pytest.raises(Overloaded):
        asyncio.run(anext(turn.chat(loaded, chat())))  # type: ignore[arg-type]


def test_a_prompt_that_is_too_long_is_refused_with_both_counts(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text)
    with pytest.raises(ContextOverflow) as caught:
        collect(turn.complete(loaded, CompletionRequest("cria", tuple([1] * 3000))))
    assert (caught.value.num_tokens, caught.value.limit) == (3000, loaded.context_length)
    assert engine_of(loaded).asked == []


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text)
    full = tuple([1] * loaded.context_length)
    with pytest.raises(ContextOverflow) as caught:
        collect(turn.complete(loaded, CompletionRequest("cria", full)))
    assert caught.value.num_tokens == loaded.context_length + 1
    short = Generation(stopping=Stopping(min_tokens=5))
    with pytest.raises(ContextOverflow, match="prompt and shortest answer"):
        collect(turn.complete(loaded, CompletionRequest("cria", full[:-4], short)))


def test_a_completion_goes_on_with_the_text_as_it_is(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "a", LENGTH))
    collect(turn.complete(loaded, CompletionRequest("cria", "<|begin_of_text|>1, 2, 3")))
    (asked,) = engine_of(loaded).asked
    assert [*asked.prompt] == [cria_text.tokenizer.bos_id, *cria_text.tokenizer.encode("1, 2, 3")]


def test_an_empty_completion_starts_from_the_beginning_of_a_text(cria: Description, cria_text: TextSide) -> None:
    loaded = model(cria, cria_text, (0, "a", LENGTH))
    collect(turn.complete(loaded, CompletionRequest("cria", "")))
    assert engine_of(loaded).asked[0].prompt == (cria_text.tokenizer.bos_id,)


def test_a_model_without_a_template_completes_and_says_why_it_does_not_chat(
    cria: Description, cria_text: TextSide
) -> None:
    error = TemplateError("the model has no chat template", hint="use it for completions")
    text = TextSide(cria_text.tokenizer, NoTemplate(error), cria_text.sampling)
    loaded = model(cria, text, (0, "a", LENGTH))
    with pytest.raises(TemplateError, match="no chat template"):
        collect(turn.chat(loaded, chat()))
    assert collect(turn.complete(loaded, CompletionRequest("cria", "1, 2,")))[1] == Text("a")
