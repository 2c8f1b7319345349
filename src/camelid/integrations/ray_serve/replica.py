"""One replica: a model and its engine, asked in packed requests. Knows no Ray."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from camelid.errors import CamelidError, MissingModel, Unavailable
from camelid.runtime.grammars import teach
from camelid.runtime.model import LoadedModel
from camelid.runtime.remote_engine import About, failed, pack, requests, texts
from camelid.runtime.runtime import Runtime
from camelid.settings import ModelSettings
from camelid.store.local import find
from camelid.store.names import parse_name
from camelid.store.places import own_store
from camelid.store.transfer import Watcher, pull


class Replica:
    """A loaded model, with an engine process of its own that is replaced when it dies."""

    def __init__(self, runtime: Runtime, model: LoadedModel) -> None:
        self._runtime, self._model = runtime, model

    @classmethod
    async def open(cls, name: str, settings: ModelSettings) -> Replica:
        """Load a model, fetched first if it is not on this node. Raises what either raises."""
        await asyncio.to_thread(fetch_if_missing, name, settings.models)
        runtime = Runtime(settings)
        return cls(runtime, await runtime.load(name))

    def about(self) -> dict[str, Any]:
        """Return `About` as plain values, and the numbers of the processes that one would have to kill."""
        status = self._model.status()
        about = About(status.name, status.backend, status.context_length)
        return {**asdict(about), "process": os.getpid()}

    async def generate(self, packed: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the packed tokens of a request; a failure is the last thing that comes."""
        request = requests.decode(packed)
        try:
            if request.grammar is not None:
                await teach(self._model)
            async with aclosing(self._model.engine.generate(request)) as tokens:
                async for some in tokens:
                    yield pack(some)
        except CamelidError as error:
            yield failed(error)

    async def embed(self, packed: bytes) -> bytes:
        """Return the packed vectors of a request, or the failure."""
        try:
            return pack(await self._model.engine.embed(texts.decode(packed)))
        except CamelidError as error:
            return failed(error)

    def check(self) -> None:
        """Raise Unavailable if the engine gives no sign of life."""
        if not self._model.engine.health().is_fresh:
            raise Unavailable("the engine gives no sign of life")

    async def close(self) -> None:
        """End the engine."""
        await self._runtime.close()


def fetch_if_missing(model: str, folder: str | None) -> None:
    """Fetch a model that has a name and is in no store of this node."""
    try:
        find(model, folder)
    except MissingModel:
        pull(own_store(folder), parse_name(model), Watcher(), lambda manifest, need_bytes: None)
