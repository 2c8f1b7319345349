"""The engine of a model that only reads: it has no pages and no answers, texts become vectors.

It looks like `Engine` from outside, so that processes, loops and supervisors need not know which one they have.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from camelid.backends.base import Backend
from camelid.errors import CamelidError, InvalidRequest, UnsupportedModel
from camelid.grammar.vocabulary import Vocabulary

from .embedding import Embedder, Encodes
from .request import Embedded, EmbedRequest, GenerateRequest, Token
from .settings import EngineSettings


class EncoderEngine:
    """Embeds on one model. One thread calls it."""

    def __init__(
        self,
        model: Encodes,
        backend: Backend,
        settings: EngineSettings,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embedder = Embedder(model, backend, settings, None)
        self._clock_s = clock_s
        self._num_steps = 0
        self._last_step_s = 0.0

    def learn(self, vocabulary: Vocabulary) -> None:
        """Need no vocabulary: no grammar is followed."""

    def prepare(self, request: GenerateRequest) -> None:
        """Have nothing to wait for."""

    def adapt(self, key: str, path: str) -> None:
        """Refuse: raises UnsupportedModel."""
        raise UnsupportedModel("this model makes embeddings and takes no adapters")

    def adapted(self) -> list[tuple[str, CamelidError | None]]:
        """Return nothing: no adapter is ever taken in."""
        return []

    def is_adapting(self) -> bool:
        """Return False."""
        return False

    def forget_adapter(self, key: str) -> None:
        """Do nothing: there is none."""

    def submit(self, request: GenerateRequest) -> None:
        """Refuse: raises InvalidRequest."""
        raise InvalidRequest("this model does not support generate", field="model", hint="it makes embeddings")

    def abort(self, request_id: str, choice: int | None = None) -> None:
        """Forget a request; one that is unknown is fine."""
        self._embedder.abort(request_id)

    def step(self) -> list[Token]:
        """Do nothing: there are no answers."""
        return []

    def has_work(self) -> bool:
        """Return False: there are no answers."""
        return False

    def submit_texts(self, request: EmbedRequest) -> None:
        """Queue texts. Raises ContextOverflow, InvalidRequest, Overloaded."""
        self._embedder.submit(request)

    def embed(self) -> list[Embedded]:
        """Run one step and return the requests that are complete with it."""
        started_s = self._clock_s()
        complete = self._embedder.step()
        self._num_steps += 1
        self._last_step_s = self._clock_s() - started_s
        return complete

    def has_texts(self) -> bool:
        """Return whether texts wait for their vectors."""
        return self._embedder.has_work

    def warm_up(self) -> float:
        """Read one token, which touches every weight; return the seconds that it took."""
        self.submit_texts(EmbedRequest("warm-up", ((0,),)))
        started_s = self._clock_s()
        self.embed()
        return self._clock_s() - started_s

    def stats(self) -> dict[str, float]:
        """Return levels and counts by name (see `Engine.stats`)."""
        return {
            "steps": self._num_steps,
            "last_step_seconds": self._last_step_s,
            "embedded_texts": self._embedder.num_texts,
        }

    def close(self) -> None:
        """Do nothing: nothing is kept."""
