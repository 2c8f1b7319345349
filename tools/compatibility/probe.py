"""Sends a body to the real routes over a scripted runtime, and tells what became of it."""

from __future__ import annotations

import json
import re
import zlib
from array import array
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
from fake_runtime import FakeRuntime

from camelid.server.app import create_app
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ServerSettings
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Echo,
    EmbeddingRequest,
    Embeddings,
    Event,
    Finished,
    FinishReason,
    Ranking,
    RankRequest,
    Reasoning,
    Started,
    Text,
    Tokens,
    TokenScore,
    ToolCall,
    ToolCalled,
    Usage,
)

from .shapes import STORED, Body, Route

_VOLATILE = re.compile(
    r'"(?:id|item_id|call_id|created|created_at|\w+_duration)":\s*(?:"[^"]*"|[\d.]+)|resp_\w+|(?:msg|fc|rs)_\w+'
)
_SCORE = TokenScore(5, b"Hel", -0.5, (TokenScore(5, b"Hel", -0.5), TokenScore(6, b"B", -2.0)))


class TalkativeRuntime(FakeRuntime):
    """Answers every request with everything that an answer can have, so that what is left out of a reply is seen."""

    async def count_tokens(self, request: ChatRequest) -> int:
        """Return a number that everything of the prompt has a part in."""
        return len(repr((request.messages, request.tools)))

    async def tokenize_chat(self, request: ChatRequest, *, add_generation_prompt: bool = True) -> Tokens:
        """Return tokens that everything of the prompt has a part in."""
        text = repr((request.messages, request.tools, request.continues_last))
        return await self.tokenize(request.model, text, with_bos=add_generation_prompt)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return vectors that everything of the request has a part in."""
        vectors = (array("f", [zlib.crc32(repr(one).encode())] * (request.dimensions or 3)) for one in request.inputs)
        return Embeddings(tuple(vectors), 7)

    async def rank(self, request: RankRequest) -> Ranking:
        """Return scores that everything of the request has a part in."""
        return Ranking(tuple(zlib.crc32((request.query + text).encode()) / 2**32 for text in request.documents), 7)

    async def _play(self, request: ChatRequest | CompletionRequest) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        is_plain = isinstance(request, CompletionRequest)
        yield Started(7, 4, Echo("hi", b"hi") if isinstance(request, CompletionRequest) and request.echo else None)
        num_choices = request.generation.num_choices
        for choice in range(num_choices):
            for event in self._answer(choice, is_plain=is_plain):
                yield event
            usage = Usage(7, 3 * num_choices, 4) if choice == num_choices - 1 else None
            yield Finished(FinishReason.STOP if is_plain else FinishReason.TOOL_CALLS, choice, usage)

    def _answer(self, choice: int, *, is_plain: bool) -> list[Event]:
        texts: list[Event] = [Text("Hel", choice, (_SCORE,)), Text("lo", choice)]
        if is_plain:
            return texts
        calls = [ToolCalled(ToolCall(f"call_{number}", "f", "{}"), number, choice) for number in range(2)]
        return [Reasoning("Hm", choice), *texts, *calls]


@dataclass(frozen=True)
class Outcome:
    """What became of a request: its status, what it says, and everything that it had the server do."""

    status: int
    text: str
    effect: tuple[Any, ...]

    def refusal(self) -> tuple[str, str]:
        """Return the field that a refusal names (where the dialect's envelope has a place for it), and its sentence."""
        error = json.loads(self.text)["error"]
        if isinstance(error, str):
            return "", error
        return str(error.get("param") or ""), str(error["message"])


class Prober:
    """A server to send bodies to. Used inside one event loop."""

    def __init__(self) -> None:
        self._runtime = TalkativeRuntime()
        lifecycle = Lifecycle()
        lifecycle.is_started = True
        settings = ServerSettings(alias=(("other", "tiny"),))
        self.app = create_app(self._runtime, settings, default_model="tiny", lifecycle=lifecycle)
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        self._client = httpx2.AsyncClient(transport=transport, base_url="http://localhost")

    async def send(self, route: Route, body: Body | None, *, keeps_seed: bool = False) -> Outcome:
        """Send `body` and return what became of it. keeps_seed: a seed is part of what is asked."""
        if STORED in json.dumps(body):
            body = json.loads(json.dumps(body).replace(STORED, await self._stored_id()))
        before = len(self._runtime.asked)
        response = await self._client.request(route.method, route.path, json=body, headers=dict(route.headers))
        asked = [ask if keeps_seed else _unseeded(ask) for ask in self._runtime.asked[before:]]
        text = response.text
        kept = list(getattr(self._runtime, "kept", ()))
        effect = (repr(asked), repr(kept[-1:]), response.headers.get("content-type"), _VOLATILE.sub("", text))
        return Outcome(response.status_code, text, effect)

    async def _stored_id(self) -> str:
        response = await self._client.post("/v1/responses", json={"input": "hi"})
        return str(response.json()["id"])


def _unseeded(ask: ChatRequest | CompletionRequest) -> ChatRequest | CompletionRequest:
    generation = ask.generation
    return replace(ask, generation=replace(generation, sampling=replace(generation.sampling, seed=0)))
