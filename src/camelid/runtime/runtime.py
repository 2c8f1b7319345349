"""The loaded models, and requests put to them by name. Servers, consoles and libraries all come through here.

A runtime belongs to one asyncio loop. It knows no JSON and no command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

from camelid.errors import CamelidError, Unavailable
from camelid.settings import KeepSettings, ModelSettings, SafetySettings
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Embeddings,
    Event,
    Ranking,
    RankRequest,
    Sampling,
    Tokens,
)

from . import turn
from .adapters import AdapterFile, ModelAdapters
from .assembly import open_engine
from .embedding import embed, rank
from .engine_port import EnginePort
from .engine_process import WORKER
from .frames import Load
from .loaded_models import LoadedModels
from .loading import read_text_side
from .local_engine import LocalEngine
from .model import Description, LoadedModel
from .plain_prompt import text_of
from .safety import Safety
from .status import Health, Judgements, ModelStatus
from .supervisor import SupervisedEngine

_log = logging.getLogger(__name__)


class Runtime:
    """Loads models and carries requests through them.

    in_process: engines run in threads of this process, for the library and the console. Otherwise each model has a
    process of its own, which is replaced when it dies, and its requests go on. worker: the command of such a process;
    who measures the front alone puts another one in its place. open_engine: in place of both, for engines that are
    somewhere else.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        keep: KeepSettings | None = None,
        safety: SafetySettings | None = None,
        in_process: bool = False,
        worker: Sequence[str] = WORKER,
        open_engine: Callable[[Load], Coroutine[Any, Any, EnginePort]] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold no models yet. With `keep`, models are loaded when they are asked for, and leave when it says; with
        `safety`, some are watched. Raises InvalidSetting.
        """
        self._settings = settings
        here = _local_engine if in_process else partial(_supervised_engine, worker)
        self._open_engine: Callable[[Load], Coroutine[Any, Any, EnginePort]] = open_engine or here
        self._models = LoadedModels(settings, keep, self._open, clock_s)
        self._safety = Safety(safety or SafetySettings(), self._models)
        self._is_draining = False
        self._num_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def load(self, name: str) -> LoadedModel:
        """Load a model, `cria`, a path or a name of the store, or return it if it is loaded.

        What judges it is loaded, too. Raises NotFound, FormatError, ModelError, OutOfMemory, InvalidSetting,
        MissingDependency, Unavailable.
        """
        model = await self._models.load(name)
        await self._safety.prepare(model.name)
        return model

    async def ready(self, name: str, keep_s: float | None = None) -> LoadedModel:
        """Return the model that a request is going to use, loaded now if need be (see `LoadedModels.ready`)."""
        return await self._models.ready(name, keep_s)

    async def load_adapter(self, model: str, name: str, path: str, *, replaces: bool = False) -> AdapterFile:
        """Let requests choose an adapter of a loaded model, as `model:name`; it stays while this runtime does.

        `replaces`: it takes the place of one of that name. Raises NotFound, InvalidRequest, FormatError, ModelError,
        OutOfMemory, Unavailable.
        """
        return await self._models.load_adapter(model, name, path, replaces=replaces)

    async def unload_adapter(self, model: str, name: str) -> None:
        """Take no more requests for an adapter; those that run are finished with it. Raises NotFound."""
        await self._models.unload_adapter(model, name)

    async def keep(self, name: str, keep_s: float | None) -> LoadedModel:
        """Return a model as `ready` does, where no request follows: its time begins now."""
        return await self._models.keep(name, keep_s)

    async def release(self, name: str) -> None:
        """Unload a model now, or as soon as its last request has ended. Raises NotFound."""
        await self._models.release(name)

    async def unload_due(self) -> None:
        """Unload the models whose time is over; a timer does it, too."""
        await self._models.unload_due()

    async def unload(self, name: str) -> None:
        """Unload a model and end its engine. Its open requests end with Unavailable. Raises NotFound."""
        await self._models.unload(name)

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of one conversation turn. Closing the iterator frees what the request holds.

        Raises NotFound, TemplateError, ContextOverflow, InvalidRequest and Overloaded before the first event;
        Unavailable and RequestsFailed at any time.
        """
        return self._carry(request.model, lambda model: self._safety.chat(model, request))

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of one plain completion. Raises as `chat` does."""
        return self._carry(request.model, lambda model: self._safety.complete(model, request))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return a vector for each input. Raises NotFound, InvalidRequest, ContextOverflow and what engines raise."""
        with self._in_flight():
            async with self._models.use(request.model) as model:
                return await embed(model, request)

    async def rank(self, request: RankRequest) -> Ranking:
        """Return how well each document answers a query. Raises as `embed` does."""
        with self._in_flight():
            async with self._models.use(request.model) as model:
                return await rank(model, request)

    def get(self, name: str) -> LoadedModel:
        """Return a loaded model by its own name or by the one that it was loaded by. Raises NotFound."""
        return self._models.get(name)

    async def count_tokens(self, request: ChatRequest) -> int:
        """Return how many tokens the prompt of a conversation has. Raises NotFound, TemplateError."""
        async with self._models.use(request.model) as model:
            return len(await asyncio.to_thread(turn.encode_chat, model, request))

    async def tokenize(self, name: str, text: str, *, with_bos: bool = True) -> Tokens:
        """Return a text as a model reads it when it completes it: control tokens that are spelled out are some.

        with_bos: put the token that begins a text in front, where the model wants it. Raises NotFound.
        """
        model = self.get(name)
        encode = model.text.tokenizer.encode
        return model.tokens(await asyncio.to_thread(encode, text, parse_special=True, with_bos=with_bos))

    async def tokenize_chat(self, request: ChatRequest, *, add_generation_prompt: bool = True) -> Tokens:
        """Return the prompt of a conversation as the model reads it. Raises NotFound, TemplateError."""
        model = self.get(request.model)
        ids = await asyncio.to_thread(turn.encode_chat, model, request, add_generation_prompt=add_generation_prompt)
        return model.tokens(ids)

    async def detokenize(self, name: str, ids: Sequence[int], *, shows_control: bool = True) -> str:
        """Return the text of ids, control tokens spelled out or left out. Raises NotFound, InvalidRequest."""
        tokenizer = self.get(name).text.tokenizer
        return await asyncio.to_thread(text_of, tokenizer, ids, shows_control=shows_control)

    def sampling(self, name: str) -> Sampling:
        """Return the sampling that a loaded model's makers recommend. Raises NotFound."""
        return self.get(name).sampling

    def loaded(self) -> list[ModelStatus]:
        """Return the loaded models, in the order of their loading."""
        return self._models.statuses()

    def health(self) -> Health:
        """Say how the engines are."""
        engines = [model.engine for model in self._models.all()]
        healths = [engine.health() for engine in engines]
        waiting = [int(engine.stats().get("sequences_waiting", 0)) for engine in engines]
        return Health(
            is_started=bool(healths) and all(health.is_started for health in healths),
            is_fresh=all(health.is_fresh for health in healths),
            is_draining=self._is_draining,
            is_overloaded=any(count >= self._settings.max_waiting for count in waiting),
            num_in_flight=self._num_in_flight,
            num_waiting=sum(waiting),
            num_restarts=sum(health.num_restarts for health in healths),
        )

    def judgements(self) -> Judgements:
        """Return what safety models have said so far."""
        return self._safety.judgements()

    def stats(self) -> Mapping[str, float]:
        """Return the engines' counts and levels by name, added up."""
        total: Counter[str] = Counter()
        for model in self._models.all():
            total.update(model.engine.stats())
        return total

    async def drain(self, seconds: float) -> bool:
        """Take no new requests, and wait at most `seconds` for the open ones. Return whether all have ended."""
        self._is_draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Unload everything. Open requests end with Unavailable."""
        self._is_draining = True
        await self._models.close()

    async def _carry(
        self, name: str, begin: Callable[[LoadedModel], AsyncGenerator[Event, None]]
    ) -> AsyncGenerator[Event, None]:
        with self._in_flight():
            async with self._models.use(name) as model, aclosing(begin(model)) as events:
                async for event in events:
                    yield event

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        if self._is_draining:
            raise Unavailable("no new requests are taken: this server is leaving", hint="ask another one")
        self._num_in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_in_flight -= 1
            if not self._num_in_flight:
                self._idle.set()

    async def _open(self, description: Description) -> LoadedModel:
        """Open a model: its weights where the engine runs, and at the same time its text side here."""
        start = time.monotonic()
        opening = asyncio.create_task(self._open_engine(_load_message(description)))
        try:
            text = await asyncio.to_thread(read_text_side, description)
            engine = await asyncio.shield(opening)
        except BaseException:
            await _abandon(opening)
            raise
        model = LoadedModel(description, text, engine, ModelAdapters(engine, description.adapters))
        _log.info("%s is ready after %.2f s, on %s", model.name, time.monotonic() - start, model.engine.backend)
        _log.info("%s: %s", model.name, _sizes(description))
        return model


def _sizes(description: Description) -> str:
    sizing = description.sizing
    return (
        f"{description.num_parameters} parameters, a context of {sizing.context_length} tokens, {sizing.num_pages} "
        f"pages of cache, {sizing.memory_bytes / 2**20:.0f} MiB when all are used"
    )


def _load_message(description: Description) -> Load:
    sizing = description.sizing
    level = logging.getLogger("camelid").getEffectiveLevel()
    path = str(description.files.weights)
    adapters = tuple(map(str, description.files.adapters))
    choosable = tuple({file.key: file.command for file in description.adapters}.values())
    return Load(
        path,
        description.settings,
        sizing.num_pages,
        sizing.context_length,
        description.stamp,
        level,
        adapters,
        choosable,
        description.draft,
    )


async def _supervised_engine(worker: Sequence[str], load: Load) -> EnginePort:
    engine = SupervisedEngine(load, command=worker, say=lambda stage: _log.debug("loading: %s", stage))
    await engine.start()
    return engine


async def _local_engine(load: Load) -> EnginePort:
    if load.settings.tensor_parallel > 1:  # a rank that dies ends its engine's process, which must not be this one
        return await _supervised_engine(WORKER, load)
    engine, backend = await asyncio.to_thread(open_engine, load, lambda stage: _log.debug("loading: %s", stage))
    return LocalEngine(engine, backend, load.settings.max_sequences + load.settings.max_waiting, load.choosable)


async def _abandon(opening: asyncio.Task[EnginePort]) -> None:
    """End an engine that is being opened for a model that cannot be."""
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError, CamelidError):
        await (await opening).close()
