"""What every route is given: the runtime, the names that models go by, and the state of the server."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from camelid.types import ChatRequest, CompletionRequest, Event

from .contract import ServedRuntime
from .lifecycle import Lifecycle
from .limits import Limits
from .metrics import Metrics


@dataclass(frozen=True)
class ModelNames:
    """The names that clients may use:

    the default model's, which is also meant when none is given, and aliases of it or of others.
    """

    default: str
    aliases: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, name: str | None) -> str:
        """Return the runtime's name for `name`.

        A name that is not known is passed on: the runtime says what it thinks of it.
        """
        if name is None:
            return self.default
        return self.aliases.get(name, name)

    def of(self, model: str) -> list[str]:
        """Return all names of the loaded model `model`, its own first."""
        return [model, *(alias for alias, target in self.aliases.items() if target == model)]


@dataclass(frozen=True)
class Door:
    """One server's runtime and state, handed to the routes of every dialect."""

    runtime: ServedRuntime
    names: ModelNames
    lifecycle: Lifecycle
    metrics: Metrics
    limits: Limits
    opened_at: float = field(default_factory=time.time)

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of `request`, counted."""
        return self.metrics.observed(self.runtime.chat(request), self._label(request.model))

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of `request`, counted."""
        return self.metrics.observed(self.runtime.complete(request), self._label(request.model))

    def _label(self, model: str) -> str:
        """Return the name under which requests for `model` are counted.

        Names that a client made up share one: labels are kept for ever.
        """
        return model if any(status.name == model for status in self.runtime.loaded()) else "other"
