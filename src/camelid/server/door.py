"""What every route is given: the runtime, the names that models go by, and the state of the server."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace

from starlette.requests import Request

from camelid.types import ChatRequest, CompletionRequest, EmbeddingRequest, Embeddings, Event, Ranking, RankRequest

from .auth import skips_safety
from .contract import ServedRuntime
from .lifecycle import Lifecycle
from .limits import Limits
from .metrics import Metrics
from .stream import while_connected


class ModelNames:
    """The names that clients may use: models' own, and aliases.

    `default` is meant when a request names none. Until the model is loaded it is what the operator wrote, perhaps a
    path; from then on (`settle`) it is the model's own name.
    """

    def __init__(self, default: str, aliases: Mapping[str, str] | None = None) -> None:
        self.default = default
        self._aliases = dict(aliases or {})

    def settle(self, own: str) -> None:
        """Call the default model by its own name; aliases of it follow."""
        self._aliases = {alias: own if target == self.default else target for alias, target in self._aliases.items()}
        self.default = own

    def resolve(self, name: str | None) -> str:
        """Return the runtime's name for `name`.

        A name that is not known is passed on: the runtime says what it thinks of it.
        """
        if name is None or name in self._aliases:
            return self.default if name is None else self._aliases[name]
        base, _, adapter = name.rpartition(":")
        return f"{self._aliases[base]}:{adapter}" if base in self._aliases else name

    def of(self, model: str) -> list[str]:
        """Return all names of the loaded model `model`, its own first."""
        return [model, *(alias for alias, target in self._aliases.items() if target == model != alias)]


@dataclass(frozen=True)
class Door:
    """One server's runtime and state, handed to the routes of every dialect."""

    runtime: ServedRuntime
    names: ModelNames
    lifecycle: Lifecycle
    metrics: Metrics
    limits: Limits
    opened_at: float = field(default_factory=time.time)

    async def ready(self, name: str | None, keep_s: float | None = None) -> str:
        """Return the runtime's name of the model that a request asks for, loaded now if need be.

        keep_s: how long it is kept behind the request, None for as long as usual. Raises what loading raises, and
        Unavailable when no requests are taken.
        """
        with self.lifecycle.request():
            return (await self.runtime.ready(self.names.resolve(name), keep_s)).name

    async def keep(self, name: str, keep_s: float | None) -> None:
        """Load a model if need be and keep it so long, where no request follows. Raises what `ready` raises."""
        with self.lifecycle.request():
            await self.runtime.keep(self.names.resolve(name), keep_s)

    def chat(self, request: Request | None, ask: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of a conversation turn, counted. `request` is None for one that is answered later."""
        ask = replace(ask, skips_safety=request is not None and skips_safety(request.scope))
        return self.metrics.observed(self.runtime.chat(ask), self._label(ask.model))

    def complete(self, request: Request, ask: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of a plain completion, counted."""
        ask = replace(ask, skips_safety=skips_safety(request.scope))
        return self.metrics.observed(self.runtime.complete(ask), self._label(ask.model))

    async def embed(self, request: Request, ask: EmbeddingRequest) -> Embeddings:
        """Return a vector for each input, counted. Gives up when the client leaves (raises Cancelled)."""
        with self.lifecycle.request() as ended:
            found = await while_connected(self.runtime.embed(ask), request.receive, ended)
        self.metrics.count_embedded(found.prompt_tokens, self._label(ask.model))
        return found

    async def rank(self, request: Request, ask: RankRequest) -> Ranking:
        """Return how well each document answers a query, counted. Gives up when the client leaves."""
        with self.lifecycle.request() as ended:
            found = await while_connected(self.runtime.rank(ask), request.receive, ended)
        self.metrics.count_embedded(found.prompt_tokens, self._label(ask.model))
        return found

    def _label(self, model: str) -> str:
        """Return the name under which requests for `model` are counted.

        Names that a client made up share one: labels are kept for ever.
        """
        return model if any(status.name == model for status in self.runtime.loaded()) else "other"
