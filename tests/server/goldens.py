"""The golden files: a body, what it asks of the runtime, and what is written back for a scripted answer.

`python tests/server/goldens.py` writes the outputs again from the code; read the difference before it is committed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from fake_runtime import hello

from camelid.server.limits import Limits
from camelid.server.openai import completion_replies, completion_requests, replies, requests
from camelid.server.openai.bodies import ChatBody, CompletionBody
from camelid.types import (
    Echo,
    Event,
    Finished,
    FinishReason,
    Reasoning,
    Started,
    Text,
    TokenScore,
    ToolCall,
    ToolCalled,
    Usage,
)

FOLDER = Path(__file__).parents[1] / "golden" / "openai"
STAMP = replies.Stamp("id-1", 1_700_000_000, "camelid-test")
SEED = 4242  # what the door would draw

SUM = TokenScore(11, b"4", -0.25, (TokenScore(11, b"4", -0.25), TokenScore(12, b"5", -1.5)))
HALF = TokenScore(21, b"\xe2\x82", -0.5, (TokenScore(21, b"\xe2\x82", -0.5), TokenScore(3, b"x", float("-inf"))))
REST = TokenScore(22, b"\xac", 0.0, (TokenScore(22, b"\xac", 0.0),))

SCRIPTS: Mapping[str, Sequence[Event]] = {
    "hello": [event for event in hello() if isinstance(event, Event)],
    "two": [event for event in hello(2) if isinstance(event, Event)],
    "scores": [
        Started(3),
        Text("4", scores=(SUM,)),
        Text("€", scores=(HALF, REST)),
        Finished(FinishReason.LENGTH, usage=Usage(3, 3)),
    ],
    "echo": [Started(7, 4, Echo("Say: ")), Text("Hel"), Text("lo"), Finished(FinishReason.STOP, usage=Usage(7, 3, 4))],
    "echo_of_two": [
        Started(1, echo=Echo("b"), choice=1),
        Started(1, echo=Echo("a"), choice=0),
        Text("1", choice=1),
        Text("0"),
        Finished(FinishReason.STOP, usage=Usage(1, 1)),
        Finished(FinishReason.LENGTH, 1, Usage(1, 1)),
    ],
    "echo_scores": [
        Started(3, echo=Echo("é4", "é".encode(), (SUM,))),
        Text("€", scores=(HALF, REST)),
        Finished(FinishReason.LENGTH, usage=Usage(3, 3)),
    ],
    "ranked": [
        Started(2),
        Text("4€", scores=(SUM, HALF)),
        Text("4", 1, (SUM,)),
        Text("€", 2, (REST,)),
        *(Finished(FinishReason.STOP, choice) for choice in range(3)),
        Finished(FinishReason.STOP, 3, Usage(2, 9)),
    ],
    "tools": [
        Started(20),
        Text("Let me see."),
        ToolCalled(ToolCall("call_1", "weather", '{"city":"Oslo"}')),
        ToolCalled(ToolCall("call_2", "weather", '{"city":"Bergen"}'), index=1),
        Finished(FinishReason.TOOL_CALLS, usage=Usage(20, 15)),
    ],
    "thoughts": [
        Started(2),
        Reasoning("Hm"),
        Text('line\u2028end \u0085 "quoted" \n €'),
        Finished(FinishReason.STOP, usage=Usage(2, 2), stop="END"),
    ],
}


def case_files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def outcome(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the code makes of `case` now: the requests, and the reply or the chunks."""
    body = json.dumps(case["body"]).encode()
    return _chat(body, case["events"]) if "messages" in case["body"] else _completion(body, case["events"])


def _chat(data: bytes, script: str) -> dict[str, Any]:
    body = msgspec.json.decode(data, type=ChatBody)
    ask = requests.to_chat_request(body, "tiny", SEED, Limits())
    form = requests.chat_form(body, body.model or "tiny")
    return {"asks": [_plain(ask)]} | _written(
        form, script, lambda: replies.ChatReply(STAMP, form), lambda: replies.ChatStream(STAMP, form)
    )


def _completion(data: bytes, script: str) -> dict[str, Any]:
    body = msgspec.json.decode(data, type=CompletionBody)
    asks = completion_requests.to_completion_requests(body, "tiny", SEED, Limits())
    form = completion_requests.completion_form(body, body.model or "tiny")
    return {"asks": [_plain(ask) for ask in asks]} | _written(
        form,
        script,
        lambda: completion_replies.CompletionReply(STAMP, form, len(asks)),
        lambda: completion_replies.CompletionStream(STAMP, form, len(asks)),
    )


def _written(form: requests.Form, script: str, reply: Callable[[], Any], stream: Callable[[], Any]) -> dict[str, Any]:
    events = SCRIPTS[script]
    if not form.stream:
        whole = reply()
        for event in events:
            whole.feed(event)
        return {"reply": json.loads(whole.body())}
    writer = stream()
    written = b"".join([*(writer.feed(event) for event in events), writer.finish()])
    return {"stream": [_frame(text) for text in written.decode().removesuffix("\n\n").split("\n\n")]}


def _frame(text: str) -> Any:
    """Return one event's data as JSON, or as text where it is none."""
    data = text.removeprefix("data: ")
    return data if data == "[DONE]" else json.loads(data)


def _plain(ask: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(msgspec.json.encode(asdict(ask)))
    return plain


def main() -> None:
    """Write all outputs again."""
    for file in case_files():
        case = json.loads(file.read_text())
        given = {"says": case["says"], "body": case["body"], "events": case["events"]}
        file.write_text(json.dumps(given | outcome(case), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
