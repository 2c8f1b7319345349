"""Camelid as a library: plain calls that block."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

import camelid
from camelid.errors import ContextOverflow, InvalidRequest, InvalidSetting, NotFound
from camelid.runtime.asking import generation_of
from camelid.types import Finished, FinishReason, Message, Sampling, Started, Text, ToolCall, ToolSpec


@pytest.fixture(scope="module")
def model() -> Iterator[camelid.Model]:
    with camelid.load("cria", threads=1, device="cpu") as loaded:
        yield loaded


def test_an_answer_comes_whole(model: camelid.Model) -> None:
    answer = model.chat("What is 17 + 25?", temperature=0, max_tokens=20)
    assert answer.text.strip() != ""
    assert answer.finish_reason is FinishReason.STOP
    assert answer.usage.completion_tokens == len(model.tokenize(answer.text)) + 1


def test_a_stream_gives_the_same_answer_piece_by_piece(model: camelid.Model) -> None:
    whole = model.chat("Hello!", seed=5, max_tokens=12, ignore_eos=True)
    events = list(
        model.chat([{"role": "user", "content": "Hello!"}], stream=True, seed=5, max_tokens=12, ignore_eos=True)
    )
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert "".join(event.text for event in events if isinstance(event, Text)) == whole.text


def test_a_stream_that_is_closed_ends_the_answer(model: camelid.Model) -> None:
    events = model.chat("Hello!", stream=True, ignore_eos=True)
    next(events)
    events.close()
    assert model.chat("Hello!", max_tokens=1).usage.completion_tokens == 1


def test_choices_and_scores(model: camelid.Model) -> None:
    answer = model.complete("1, 2, 3", max_tokens=4, num_choices=2, top_logprobs=1, seed=1, ignore_eos=True)
    assert len(answer.choices) == 2
    silent = model._model.model.text.tokenizer.control_ids
    for choice in answer.choices:
        shown = b"".join(score.piece for score in choice.scores if score.id not in silent)
        assert shown.decode(errors="replace") == choice.text
    assert answer.usage.completion_tokens == 8


def test_ids_complete_like_their_text(model: camelid.Model) -> None:
    prompt = "<|begin_of_text|>1, 2, 3"
    by_text = model.complete(prompt, temperature=0, max_tokens=5)
    by_ids = model.complete(model.tokenize(prompt, parse_special=True), temperature=0, max_tokens=5)
    assert by_ids.choices == by_text.choices


def test_text_and_ids_turn_into_each_other(model: camelid.Model) -> None:
    assert model.detokenize(model.tokenize("Grüße, 世界")) == "Grüße, 世界"
    assert len(model.tokenize("<|eot_id|>", parse_special=True)) == 1
    assert len(model.tokenize("<|eot_id|>")) > 1


def test_several_threads_may_ask_at_once(model: camelid.Model) -> None:
    texts: dict[int, str] = {}

    def ask(seed: int) -> None:
        texts[seed] = model.chat("Hello!", seed=seed, max_tokens=8, ignore_eos=True).text

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {seed: model.chat("Hello!", seed=seed, max_tokens=8, ignore_eos=True).text for seed in range(4)}


def test_it_works_where_a_loop_is_running_as_in_a_notebook(model: camelid.Model) -> None:
    async def cell() -> str:
        return model.chat("Hello!", temperature=0, max_tokens=3).text

    assert asyncio.run(cell()) == model.chat("Hello!", temperature=0, max_tokens=3).text


def test_messages_and_tools_may_be_mappings_as_in_openais_api(model: camelid.Model) -> None:
    tool = {"name": "add", "description": "Add.", "parameters": {"type": "object"}}
    called = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    plain = [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "add"},
    ]
    ours = [
        Message("user", "Add."),
        Message("assistant", "", (ToolCall("c1", "add", '{"a": 1}'),)),
        Message("tool", "2", tool_call_id="c1", name="add"),
    ]
    answers = [
        model.chat(plain, tools=[{"type": "function", "function": tool}], temperature=0, max_tokens=5),
        model.chat(ours, tools=[ToolSpec("add", "Add.", {"type": "object"})], temperature=0, max_tokens=5),
    ]
    assert answers[0].text == answers[1].text
    assert answers[0].usage.prompt_tokens == answers[1].usage.prompt_tokens


def test_what_is_wrong_is_said(model: camelid.Model) -> None:
    with pytest.raises(InvalidRequest, match="there is no parameter 'colour'"):
        model.chat("Hi", colour="red")  # type: ignore[call-overload]
    with pytest.raises(InvalidRequest, match="top_p must be 0–1, got 7"):
        model.chat("Hi", top_p=7)
    with pytest.raises(InvalidRequest, match="a message needs a role"):
        model.chat([{"content": "Hi"}])
    with pytest.raises(ContextOverflow):
        model.chat("word " * 5000)
    with pytest.raises(NotFound):
        camelid.load("nothing")
    with pytest.raises(InvalidSetting, match="there is no model setting 'colour'"):
        camelid.load("cria", colour="red")
    with pytest.raises(InvalidSetting, match="threads"):
        camelid.load("cria", threads=0)


def test_the_makers_sampling_is_the_default(model: camelid.Model) -> None:
    makers = model._model.model.sampling
    assert generation_of({"seed": 1}, makers).sampling == Sampling(**{**vars(makers), "seed": 1})
    assert generation_of({}, makers).sampling.seed != generation_of({}, makers).sampling.seed


def test_a_closed_model_may_be_closed_again() -> None:
    model = camelid.load("cria", threads=1)
    model.close()
    model.close()


def test_a_prompt_that_was_read_before_a_restart_need_not_be_read_again(tmp_path: Path) -> None:
    prompt = "the quick brown fox jumps over the lazy dog and " * 12
    with camelid.load("cria", prefix_cache=str(tmp_path)) as model:
        first = model.complete(prompt, seed=3, max_tokens=12)
    pages = sum(1 for _ in tmp_path.rglob("*.page"))
    with camelid.load("cria", prefix_cache=str(tmp_path)) as model:
        second = model.complete(prompt, seed=3, max_tokens=12)
    assert second.text == first.text
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens == 32 * pages == (first.usage.prompt_tokens - 1) // 32 * 32


def test_an_answer_has_the_form_that_is_asked_for(model: camelid.Model) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    answer = model.chat("Hello!", format=schema, temperature=1.5, seed=1)
    assert json.loads(answer.text) in ({"a": 1}, {"a": 2})
    assert answer.finish_reason is FinishReason.STOP
    assert model.complete("x", format="json", max_tokens=3).text.startswith("{")
    regex = camelid.Grammar(camelid.GrammarKind.REGEX, "[ab]{3}")
    assert re.fullmatch("[ab]{3}", model.complete("x", format=regex).text)
    for wrong in ("xml", {"type": "nonsense"}):
        with pytest.raises(InvalidRequest, match="format"):
            model.chat("Hello!", format=wrong)


def test_a_call_can_be_required(model: camelid.Model) -> None:
    tool = ToolSpec("set_alarm", "", {"type": "object", "properties": {"hour": {"enum": [6, 7]}}, "required": ["hour"]})
    required = camelid.ToolChoice(is_required=True, allows_several=False)
    answer = model.chat("Hello!", tools=[tool], tool_choice=required, max_tokens=100, temperature=0)
    assert answer.finish_reason in (FinishReason.TOOL_CALLS, FinishReason.LENGTH)
    for call in answer.tool_calls:
        assert (call.name, json.loads(call.arguments)["hour"] in (6, 7)) == ("set_alarm", True)


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Ctrl-C, a moment from now."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("stream", [False, True])
def test_an_interrupt_ends_the_answer_and_the_model_goes_on(
    model: camelid.Model, interrupted: None, stream: bool
) -> None:
    def ask() -> None:
        events = model.chat("Hello!", stream=stream, ignore_eos=True)  # type: ignore[call-overload]
        for _ in events if stream else ():
            pass

    with pytest.raises(KeyboardInterrupt):
        ask()
    assert model.chat("Hello!", max_tokens=1).usage.completion_tokens == 1
    assert model._model.model.engine.stats()["sequences_running"] <= 1


def test_two_models_answer_at_once(model: camelid.Model) -> None:
    with camelid.load("cria", threads=1) as other:
        streams = [one.chat("Hello!", stream=True, seed=1, max_tokens=6, ignore_eos=True) for one in (model, other)]
        texts = ["", ""]
        for events in zip_longest(*streams):
            for index, event in enumerate(events):
                texts[index] += event.text if isinstance(event, Text) else ""
    assert texts[0] == texts[1] != ""


def test_a_supervised_engine_gives_the_same_answer(model: camelid.Model) -> None:
    with camelid.load("cria", threads=1, supervised=True) as other:
        assert other.chat("Hello!", seed=1, max_tokens=6) == model.chat("Hello!", seed=1, max_tokens=6)
