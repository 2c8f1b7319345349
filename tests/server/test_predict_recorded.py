"""The profile `as-built` answers what the real Truss server answered, recorded by tools/truss/record.py."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_runtime import FakeRuntime

from camelid.server.app import create_app
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ServerSettings
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Echo,
    Event,
    Finished,
    FinishReason,
    Started,
    Text,
    Tokens,
    Usage,
)

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tools.truss.exchanges import EXCHANGES, Exchange  # noqa: E402

ANSWERS: Mapping[str, Any] = {
    one["name"]: one for one in json.loads((ROOT / "tests/golden/predict/truss.json").read_text())["answers"]
}

# What is not as it is there, each for a reason.
OTHERWISE = {
    "messages are missing": "there a fault of the model, 500; here the caller's, and the field is named",
    "predict of the gateway": "that path belongs to the gateway, which nobody stands in front of here",
    "predict of the gateway, version 1": "the same",
    "liveness": "who comes to / may also be a client of Ollama",
    "schema": "there is one here",
    "ready under any name": "the paths below /v1/models are OpenAI's, too",
}


class Dummy(FakeRuntime):
    """The model of tools/truss/dummy, as a runtime."""

    async def tokenize_chat(self, request: ChatRequest, *, add_generation_prompt: bool = True) -> Tokens:
        self.shown = "<|begin_of_text|>" + "".join(
            f"<|start_header_id|>{said.role}<|end_header_id|>\n\n{said.content}<|eot_id|>" for said in request.messages
        )
        self.shown += "<|start_header_id|>assistant<|end_header_id|>\n\n"
        self.plain = "".join(f"{said.role}\n\n{said.content}" for said in request.messages) + "assistant\n\n"
        return self._tokens(request.model, [1, 2, 3])

    async def detokenize(self, name: str, ids: Any, *, shows_control: bool = True) -> str:
        return self.shown if shows_control else self.plain

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        begun = Started(3, echo=Echo(self.shown) if request.echo else None)
        self.script = [begun, Text("Hel"), Text("lo"), Finished(FinishReason.STOP, usage=Usage(3, 3))]
        return self._play(request)


def answer(exchange: Exchange) -> dict[str, Any]:
    lifecycle = Lifecycle()
    lifecycle.is_started = not exchange.while_loading
    settings = ServerSettings(predict_profile="as-built")
    app = create_app(Dummy(), settings, default_model="tiny", lifecycle=lifecycle)

    async def once() -> httpx2.Response:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:11434") as client:
            headers = {"user-agent": "python-requests/2", "accept": "*/*", **exchange.headers}
            return await client.request(
                exchange.method, exchange.path, headers=headers, content=exchange.body if exchange.body else None
            )

    response = asyncio.run(once())
    kept = ("content-type", "x-baseten-error-source", "x-baseten-error-code")
    found: dict[str, Any] = {
        "name": exchange.name,
        "status": response.status_code,
        "headers": {name: response.headers[name] for name in kept if name in response.headers},
    }
    if "content-length" not in response.headers:
        found["headers"]["transfer-encoding"] = "chunked"  # what a connection makes of it
    return found | _written(response.content)


def _written(data: bytes) -> dict[str, str]:
    from tools.truss.record import written

    return written(data)


def test_every_request_is_recorded() -> None:
    assert list(ANSWERS) == [one.name for one in EXCHANGES]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda one: one.name)
def test_the_answer_is_the_recorded_one_but_where_a_reason_stands(exchange: Exchange) -> None:
    assert (answer(exchange) != ANSWERS[exchange.name]) == (exchange.name in OTHERWISE), (
        answer(exchange),
        ANSWERS[exchange.name],
    )
