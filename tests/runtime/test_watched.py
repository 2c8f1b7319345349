"""What leaves of an answer that is watched: nothing before it was judged, and nothing that was judged unsafe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.errors import RequestsFailed, Unjudged
from camelid.runtime.watched import refused, watched
from camelid.types import (
    Category,
    Event,
    Finished,
    FinishReason,
    Refusal,
    Started,
    Text,
    ToolCall,
    ToolCalled,
    Usage,
)

REFUSAL = Refusal("output", (Category("S1", "Animals"),))
CALL = ToolCalled(ToolCall("call_1", "buy", '{"what": "bad"}'))


class Answer:
    """An answer that is being written, choice by choice in turn, and that ends where it is cut."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self.texts = texts
        self.cut: set[int] = set()
        self.num_written = 0
        self.was_closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        try:
            yield Started(5)
            open_choices = set(range(len(self.texts)))
            for position in range(max(map(len, self.texts)) + 1):
                for choice in sorted(open_choices):
                    await asyncio.sleep(0)
                    if choice not in self.cut and position < len(self.texts[choice]):
                        self.num_written += 1
                        yield Text(self.texts[choice][position], choice)
                    else:
                        open_choices.discard(choice)
                        yield Finished(FinishReason.STOP, choice, None if open_choices else Usage(5, self.num_written))
        finally:
            self.was_closed = True


async def judge(said: str) -> Refusal | None:
    """Find `bad` unsafe, after a moment in which the answer goes on."""
    for _ in range(7):
        await asyncio.sleep(0)
    return REFUSAL if "bad" in said else None


def shown(answer: Answer, hold_back: int) -> list[Event]:
    async def gather() -> list[Event]:
        found = watched(answer.events(), judge, answer.cut, hold_back, len(answer.texts))
        return [event async for event in found]

    return asyncio.run(gather())


def text_of(events: Sequence[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.choice == choice)


def ends_of(events: Sequence[Event]) -> dict[int, Finished]:
    return {event.choice: event for event in events if isinstance(event, Finished)}


PIECES = st.lists(st.sampled_from(["a", "good ", "b", "ad", "bad", " "]), max_size=12)


@settings(deadline=None, max_examples=30)
@given(st.lists(PIECES, min_size=1, max_size=3), st.integers(0, 12))
def test_what_is_shown_was_judged_safe_and_what_is_safe_is_shown(texts: list[list[str]], hold_back: int) -> None:
    events = shown(Answer(texts), hold_back)
    ends = ends_of(events)
    for choice, pieces in enumerate(texts):
        whole, seen = "".join(pieces), text_of(events, choice)
        assert "bad" not in seen
        assert whole.startswith(seen)
        is_unsafe = "bad" in whole
        assert ends[choice].reason is (FinishReason.CONTENT_FILTER if is_unsafe else FinishReason.STOP)
        assert ends[choice].refusal == (REFUSAL if is_unsafe else None)
        assert is_unsafe or seen == whole
    assert isinstance(events[-1], Finished)
    assert [end.usage is not None for end in ends.values()] == [event is events[-1] for event in ends.values()]


def test_an_unsafe_choice_is_cut_off_and_the_others_go_on() -> None:
    answer = Answer([["one ", "bad ", *["more "] * 40], ["two ", "three "]])
    events = shown(answer, 4)
    assert (text_of(events, 0), text_of(events, 1)) == ("one ", "two three ")
    assert answer.num_written < 42
    assert [end.usage for end in ends_of(events).values() if end.usage] == [Usage(5, answer.num_written)]


def test_text_is_shown_while_the_rest_is_written() -> None:
    async def first() -> tuple[Event, bool]:
        answer = Answer([["good "] * 50])
        events = watched(answer.events(), judge, answer.cut, 5, 1)
        assert isinstance(await anext(events), Started)
        found = await anext(events), answer.was_closed
        await events.aclose()
        assert answer.was_closed
        return found

    assert asyncio.run(first()) == (Text("good "), False)


def test_a_whole_answer_is_judged_once_when_all_is_held_back() -> None:
    asked: list[str] = []

    async def note(said: str) -> None:
        asked.append(said)

    async def gather() -> list[Event]:
        answer = Answer([["one ", "two ", "three"]])
        return [event async for event in watched(answer.events(), note, answer.cut, 0, 1)]

    assert text_of(asyncio.run(gather())) == "one two three"
    assert asked == ["one two three"]


def test_calls_of_tools_are_judged_by_name_and_arguments() -> None:
    async def calls() -> AsyncGenerator[Event, None]:
        yield Started(3)
        yield CALL
        yield Finished(FinishReason.TOOL_CALLS, usage=Usage(3, 9))

    async def gather() -> list[Event]:
        return [event async for event in watched(calls(), judge, set(), 200, 1)]

    end = Finished(FinishReason.CONTENT_FILTER, usage=Usage(3, 9), refusal=REFUSAL)
    assert asyncio.run(gather()) == [Started(3), end]


@pytest.mark.parametrize("error", [Unjudged("no judge"), RequestsFailed(("r",), "broken logits")])
def test_what_was_held_is_lost_when_the_judge_or_the_answer_fails(error: Exception) -> None:
    seen: list[Event] = []

    async def fail(said: str) -> Refusal | None:
        raise error

    async def broken() -> AsyncGenerator[Event, None]:
        yield Started(3)
        yield Text("good ")
        raise error

    async def gather(events: AsyncGenerator[Event, None], judging: object) -> None:
        async for event in watched(events, judging, set(), 3, 1):  # type: ignore[arg-type]
            seen.append(event)

    for events, judging in ((Answer([["good ", "good "]]).events(), fail), (broken(), judge)):
        with pytest.raises(type(error)):
            asyncio.run(gather(events, judging))
    assert text_of(seen) == ""


def test_a_refused_request_has_the_events_of_an_empty_answer() -> None:
    one, two = (Finished(FinishReason.CONTENT_FILTER, choice, refusal=REFUSAL) for choice in range(2))
    assert refused(REFUSAL, 2) == [Started(0), one, Finished(two.reason, 1, Usage(0, 0), refusal=REFUSAL)]
