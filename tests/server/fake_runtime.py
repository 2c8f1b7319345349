"""A scripted runtime: what it is asked is kept, what it answers is written out by the test."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from camelid.errors import CamelidError, NotFound
from camelid.runtime.status import Health, Judgements, ModelStatus
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
    Sampling,
    Started,
    Text,
    Tokens,
    Usage,
)

HEALTHY = Health(
    is_started=True,
    is_fresh=True,
    is_draining=False,
    is_overloaded=False,
    num_in_flight=0,
    num_waiting=0,
    num_restarts=0,
)


def model_status(name: str = "tiny") -> ModelStatus:
    return ModelStatus(
        name=name,
        architecture="llama",
        num_parameters=1000,
        context_length=128,
        memory_bytes=2**20,
        backend="fake",
        loaded_at=1_700_000_000.0,
    )


Step = Event | BaseException | asyncio.Event


def hello(num_choices: int = 1, echo: Echo | None = None) -> list[Step]:
    """The events of a short answer, the same for each choice."""
    events: list[Step] = [Started(prompt_tokens=7, cached_tokens=4, echo=echo)]
    for choice in range(num_choices):
        events += [Text("Hel", choice), Text("lo", choice)]
    for choice in range(num_choices):
        last = choice == num_choices - 1
        usage = Usage(7, 3 * num_choices, 4) if last else None
        events.append(Finished(FinishReason.STOP, choice, usage))
    return events


def _hello_to(request: ChatRequest | CompletionRequest) -> list[Step]:
    wants_echo = isinstance(request, CompletionRequest) and request.echo
    echo = Echo(str(request.prompt)) if isinstance(request, CompletionRequest) and wants_echo else None
    return hello(request.generation.num_choices, echo)


@dataclass
class FakeRuntime:
    """Answers every request with `script`: events are yielded, errors raised, asyncio events waited for."""

    script: Iterable[Step] | None = None
    models: list[ModelStatus] = field(default_factory=lambda: [model_status()])
    current_health: Health = HEALTHY
    asked: list[ChatRequest | CompletionRequest] = field(default_factory=list)
    num_open: int = 0
    num_closed_early: int = 0
    loads: list[str] = field(default_factory=list)
    kept: list[tuple[str, float | None]] = field(default_factory=list)
    load_error: CamelidError | None = None
    may_load: asyncio.Event | None = None
    is_closed: bool = False
    judged: Judgements = field(default_factory=Judgements)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def load(self, name: str) -> ModelStatus:
        self.loads.append(name)
        if self.may_load is not None:
            await self.may_load.wait()
        if self.load_error is not None:
            raise self.load_error
        return self.models[0]

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        return self._play(request)

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        return self._play(request)

    async def _play(self, request: ChatRequest | CompletionRequest) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        if all(model.name != request.model for model in self.models):
            raise NotFound(f"there is no model {request.model!r}")
        self.num_open += 1
        is_done = False
        self.opened.set()
        try:
            for step in _hello_to(request) if self.script is None else self.script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaseException):
                    raise step
                else:
                    await asyncio.sleep(0)  # a real engine lets others run between two tokens
                    yield step
            is_done = True
        finally:
            self.num_open -= 1
            self.num_closed_early += not is_done
            self.closed.set()

    async def ready(self, name: str, keep_s: float | None = None) -> ModelStatus:
        self.kept.append((name, keep_s))
        for model in self.models:
            if model.name == name:
                return model
        raise NotFound(f"there is no model {name!r}")

    async def keep(self, name: str, keep_s: float | None) -> ModelStatus:
        return await self.ready(name, keep_s)

    async def release(self, name: str) -> None:
        self.kept.append((name, 0.0))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        return Embeddings(tuple(array("f", [1.0, 0.0]) for _ in request.inputs), 2 * len(request.inputs))

    async def rank(self, request: RankRequest) -> Ranking:
        return Ranking(tuple(1 / len(text) for text in request.documents), 7)

    async def count_tokens(self, request: ChatRequest) -> int:
        return 7

    async def tokenize(self, name: str, text: str, *, with_bos: bool = True) -> Tokens:
        return self._tokens(name, [1] * with_bos + [ord(letter) for letter in text])

    async def tokenize_chat(self, request: ChatRequest, *, add_generation_prompt: bool = True) -> Tokens:
        text = "".join(message.content for message in request.messages)
        return self._tokens(request.model, [*map(ord, text), *[2] * add_generation_prompt])

    async def detokenize(self, name: str, ids: Sequence[int], *, shows_control: bool = True) -> str:
        return "".join(map(chr, ids))

    def _tokens(self, name: str, ids: list[int]) -> Tokens:
        if all(model.name != name for model in self.models):
            raise NotFound(f"there is no model {name!r}")
        return Tokens(tuple(ids), tuple(chr(number).encode() for number in ids), 128)

    def sampling(self, name: str) -> Sampling:
        return Sampling()

    def loaded(self) -> list[ModelStatus]:
        return self.models

    def health(self) -> Health:
        return self.current_health

    def stats(self) -> Mapping[str, float]:
        return {"sequences_running": float(self.num_open), "pages": 8.0, "pages_held": 2.0, "steps": 5.0}

    def judgements(self) -> Judgements:
        return self.judged

    async def close(self) -> None:
        self.is_closed = True
