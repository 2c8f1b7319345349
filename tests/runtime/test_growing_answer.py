"""An answer while its tokens arrive: the events are right wherever tokens, characters and stop strings are cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camelid.engine.request import Token
from camelid.runtime.growing_answer import GrowingAnswer
from camelid.runtime.model import TextSide
from camelid.text.tokenizer import Tokenizer
from camelid.types import (
    Event,
    Finished,
    FinishReason,
    Generation,
    Stopping,
    Text,
    TokenScore,
    ToolCall,
    ToolCalled,
    ToolSpec,
)

STOP, LENGTH, CALLS = FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS
WEATHER = ToolSpec("get_weather", "", {"type": "object"})


@pytest.fixture(scope="module")
def tokenizer(cria_text: TextSide) -> Tokenizer:
    return cria_text.tokenizer


def grow(
    tokenizer: Tokenizer,
    ids: list[int],
    stopping: Stopping = Stopping(),  # noqa: B008 - frozen
    *,
    finish: FinishReason = LENGTH,
    scored: bool = False,
    tools: tuple[ToolSpec, ...] = (),
) -> tuple[list[Event], Finished | None, int]:
    """Return the events of an answer of these ids, its end, and how many tokens it took."""
    answer = GrowingAnswer(0, tokenizer, Generation(stopping=stopping), tools=tools)
    events: list[Event] = []
    for index, token_id in enumerate(ids):
        last = finish if index == len(ids) - 1 else None
        events += answer.take(Token("r", 0, index, token_id, last, -float(index) if scored else None))
        if answer.finished is not None:
            break
    return events, answer.finished, answer.num_tokens


def test_one_call_ends_an_answer_that_may_have_no_more(tokenizer: Tokenizer) -> None:
    call = '{"name": "get_weather", "parameters": {"city": "Rome"}}'
    ids = tokenizer.encode(f"{call}; {call}")
    answer = GrowingAnswer(0, tokenizer, Generation(), tools=(WEATHER,), allows_several=False)
    events: list[Event] = []
    for index, token_id in enumerate(ids):
        events += answer.take(Token("r", 0, index, token_id))
        if answer.finished is not None:
            break
    assert [event.call.arguments for event in events if isinstance(event, ToolCalled)] == ['{"city": "Rome"}']
    assert answer.finished == Finished(CALLS)
    assert answer.num_tokens < len(ids)


def test_an_answer_ends_when_its_time_is_over(tokenizer: Tokenizer) -> None:
    times = iter([10.0, 11.0, 12.5])
    generation = Generation(stopping=Stopping(max_seconds=2.0))
    answer = GrowingAnswer(0, tokenizer, generation, clock_s=lambda: next(times))
    first, second = tokenizer.encode(" is a")[:2]
    assert list(answer.take(Token("r", 0, 0, first))) != []
    assert answer.finished is None
    assert list(answer.take(Token("r", 0, 1, second))) != []
    assert answer.finished == Finished(LENGTH)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def eot(tokenizer: Tokenizer) -> int:
    return tokenizer.control["<|eot_id|>"].id


def test_an_end_token_counts_and_is_not_shown(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("42"), eot(tokenizer)]
    events, finished, num_tokens = grow(tokenizer, ids, finish=STOP)
    assert (text_of(events), finished, num_tokens) == ("42", Finished(STOP), len(ids))


def test_an_end_token_that_is_to_be_ignored_is_silent_too(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("4"), eot(tokenizer), *tokenizer.encode("2")]
    events, finished, _ = grow(tokenizer, ids, Stopping(ignore_eos=True))
    assert (text_of(events), finished) == ("42", Finished(LENGTH))


def test_an_answer_cut_within_a_character_ends_with_a_replacement_character(tokenizer: Tokenizer) -> None:
    ids = [token_id for byte in "né".encode() for token_id in _byte_ids(tokenizer, byte)]
    events, finished, _ = grow(tokenizer, ids[:-1])
    assert (text_of(events), finished) == ("n\ufffd", Finished(LENGTH))


def _byte_ids(tokenizer: Tokenizer, byte: int) -> list[int]:
    return [token_id for token_id in range(tokenizer.vocab_size) if tokenizer.token_bytes(token_id) == bytes([byte])][
        :1
    ]


def test_a_stop_string_over_several_tokens_ends_the_answer_before_it(tokenizer: Tokenizer) -> None:
    ids = [token_id for letter in "one END two" for token_id in tokenizer.encode(letter)]
    events, finished, num_tokens = grow(tokenizer, ids, Stopping(stop=("END",)))
    assert (text_of(events), finished, num_tokens) == ("one ", Finished(STOP, stop="END"), 7)


def test_what_only_looked_like_a_stop_string_is_shown_at_the_end(tokenizer: Tokenizer) -> None:
    events, finished, _ = grow(tokenizer, tokenizer.encode("one EN"), Stopping(stop=("END",)))
    assert (text_of(events), finished) == ("one EN", Finished(LENGTH))


def test_a_stop_string_within_min_tokens_does_not_stop(tokenizer: Tokenizer) -> None:
    ids = [token_id for letter in "a.b.c" for token_id in tokenizer.encode(letter)]
    events, finished, _ = grow(tokenizer, ids, Stopping(min_tokens=2, stop=(".",)))
    assert (text_of(events), finished) == ("a.b", Finished(STOP, stop="."))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(text=st.text(max_size=30), stops=st.lists(st.text(min_size=1, max_size=4), max_size=3), cuts=st.randoms())
def test_the_text_is_the_same_however_it_is_cut_into_tokens(tokenizer: Tokenizer, text: str, stops, cuts) -> None:
    stopping = Stopping(stop=tuple(stops))
    whole = grow(tokenizer, [*tokenizer.encode(text), eot(tokenizer)], stopping, finish=STOP)
    pieces, rest = [], text
    while rest:
        length = cuts.randint(1, len(rest))
        pieces.append(rest[:length])
        rest = rest[length:]
    ids = [token_id for piece in pieces for token_id in tokenizer.encode(piece)]
    cut = grow(tokenizer, [*ids, eot(tokenizer)], stopping, finish=STOP)
    assert (text_of(cut[0]), cut[1]) == (text_of(whole[0]), whole[1])


def test_scores_come_with_the_text_of_their_tokens(tokenizer: Tokenizer) -> None:
    ids = [token_id for letter in "abEc" for token_id in tokenizer.encode(letter)]
    events, _, _ = grow(tokenizer, ids, Stopping(stop=("END",)), scored=True)
    scores = [
        TokenScore(token_id, tokenizer.token_bytes(token_id), -float(index)) for index, token_id in enumerate(ids)
    ]
    assert events == [Text("a", 0, (scores[0],)), Text("b", 0, (scores[1],)), Text("Ec", 0, (scores[2], scores[3]))]


def test_scores_of_what_is_not_shown_are_dropped(tokenizer: Tokenizer) -> None:
    ids = [token_id for letter in "aEND" for token_id in tokenizer.encode(letter)]
    events, _, _ = grow(tokenizer, ids, Stopping(stop=("END",)), scored=True)
    assert events == [Text("a", 0, (TokenScore(ids[0], b"a", -0.0),))]


def test_a_tool_call_is_an_event_and_the_reason_for_the_end(tokenizer: Tokenizer) -> None:
    said = '{"name": "get_weather", "parameters": {"city": "Oslo"}}'
    events, finished, _ = grow(tokenizer, [*tokenizer.encode(said), eot(tokenizer)], finish=STOP, tools=(WEATHER,))
    (called,) = events
    assert isinstance(called, ToolCalled)
    assert called == ToolCalled(ToolCall(called.call.id, "get_weather", json.dumps({"city": "Oslo"})), 0, 0)
    assert called.call.id.startswith("call_")
    assert finished == Finished(CALLS)


def test_a_tagged_tool_call_is_told_by_its_control_token(tokenizer: Tokenizer) -> None:
    tag = tokenizer.control["<|python_tag|>"].id
    ids = [tag, *tokenizer.encode('get_weather.call(city="Oslo")'), tokenizer.control["<|eom_id|>"].id]
    events, finished, _ = grow(tokenizer, ids, finish=STOP, tools=(WEATHER,))
    assert [(event.call.name, event.call.arguments) for event in events if isinstance(event, ToolCalled)] == [
        ("get_weather", '{"city": "Oslo"}')
    ]
    assert finished == Finished(CALLS)


def test_without_tools_the_same_text_is_text(tokenizer: Tokenizer) -> None:
    said = '{"name": "get_weather", "parameters": {"city": "Oslo"}}'
    events, finished, _ = grow(tokenizer, [*tokenizer.encode(said), eot(tokenizer)], finish=STOP)
    assert (text_of(events), finished) == (said, Finished(STOP))


def test_a_call_that_is_cut_short_is_text_and_ends_for_length(tokenizer: Tokenizer) -> None:
    said = '{"name": "get_weather", "parameters": {"city": "Os'
    events, finished, _ = grow(tokenizer, tokenizer.encode(said), tools=(WEATHER,))
    assert (text_of(events), finished) == (said, Finished(LENGTH))
