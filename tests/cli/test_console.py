"""The console chat: commands, parameters, what stays in the conversation, and stopping an answer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from camelid.cli.console import Console
from camelid.cli.conversation import Conversation
from camelid.cli.entry import Leave
from camelid.errors import Overloaded
from camelid.types import ChatRequest, Event, Finished, FinishReason, Message, Sampling, Started, Text, Usage


class ScriptedRuntime:
    """Answers with given texts, one per request; an exception in the script is raised, an event waited for."""

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.requests: list[ChatRequest] = []
        self.closed = 0

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        self.requests.append(request)
        yield Started(prompt_tokens=5)
        try:
            for step in list(self.script):
                self.script.pop(0)
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, str):
                    yield Text(step)
                else:
                    os.kill(os.getpid(), signal.SIGINT)
                    await asyncio.Event().wait()
            yield Finished(FinishReason.STOP, usage=Usage(5, 2))
        finally:
            self.closed += 1


def console(*script: object) -> Any:
    return Console(ScriptedRuntime(*script), Conversation("cria", Sampling(temperature=0.5)), verbose=False)  # type: ignore[arg-type]


def enter(chat: Console, *entries: str) -> None:
    async def enter_all() -> None:
        for entry in entries:
            await chat.take(entry)

    asyncio.run(enter_all())


def test_an_answer_is_printed_and_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    chat = console("4", "2")
    enter(chat, "What is 17 + 25?", "")
    assert capsys.readouterr().out == "42\n"
    assert chat.conversation.messages == [Message("user", "What is 17 + 25?"), Message("assistant", "42")]
    assert len(chat.runtime.requests) == 1


def test_the_system_prompt_and_parameters_reach_the_request() -> None:
    chat = console("yes")
    enter(chat, "/system Be brief.", "/set temperature 0", "/set seed 7", "/set stop END", "Really?")
    request = chat.runtime.requests[0]
    assert request.messages == (Message("system", "Be brief."), Message("user", "Really?"))
    assert (request.generation.sampling.temperature, request.generation.sampling.seed) == (0.0, 7)
    assert request.generation.stopping.stop == ("END",)


def test_without_a_seed_every_answer_gets_its_own() -> None:
    chat = console()
    enter(chat, "one", "two")
    first, second = (request.generation.sampling for request in chat.runtime.requests)
    assert first.temperature == second.temperature == 0.5
    assert first.seed != second.seed


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("/set temperature hot", "temperature must be a float, got 'hot'"),
        ("/set top_p 2", "top_p must be 0–1, got 2.0"),
        ("/set colour red", "there is no parameter 'colour'"),
        ("/dance", "there is no command /dance"),
    ],
)
def test_a_bad_command_is_refused_and_changes_nothing(
    entry: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = console()
    enter(chat, entry)
    assert f"error: {message}" in capsys.readouterr().err
    assert chat.conversation.parameters == {}


def test_reset_forgets_what_was_said_but_not_the_settings() -> None:
    chat = console("fine")
    enter(chat, "/system Be kind.", "How are you?", "/reset", "And now?")
    assert [message.content for message in chat.runtime.requests[1].messages] == ["Be kind.", "And now?"]


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    chat = console("once upon", None, "never")
    enter(chat, "Tell me a story.")
    assert chat.conversation.messages[-1] == Message("assistant", "once upon")
    assert chat.runtime.closed == 1
    assert capsys.readouterr().out == "once upon\n"


def test_an_error_is_shown_and_the_chat_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    chat = console(Overloaded("the queue is full", retry_after_s=1.0))
    enter(chat, "Hello?")
    assert "error: the queue is full" in capsys.readouterr().err
    assert chat.conversation.messages == []


def test_bye_leaves() -> None:
    with pytest.raises(Leave):
        enter(console(), "/bye")
