"""An engine that computes nothing and keeps time: `python -m camelid.bench.http.stub_engine RATE ID FILE CORES FD`.

Every running request gets the token ID, RATE times a second, all in the same step, as a batched engine does it; the
first one at once. At its end it writes the gaps between its steps into FILE.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from pathlib import Path

from camelid.engine.request import Embedded, EmbedRequest, GenerateRequest, Token
from camelid.errors import CamelidError, InvalidRequest, UnsupportedModel
from camelid.runtime.worker import main
from camelid.types import FinishReason

IDLE_STEP_S = 0.05  # when there is nothing to give
IDLE_TOKENS = 999  # a request for exactly so many gets the first one and no other
MOST_KEPT = 100_000  # gaps


class StubEngine:
    """Requests by id, with how many tokens each has had."""

    def __init__(self, rate: float, token_id: int, file: Path) -> None:
        self._period_s = 1 / rate
        self._token_id = token_id
        self._file = file
        self._running: dict[str, tuple[GenerateRequest, int]] = {}
        self._new: dict[str, float] = {}  # requests without a token, and when they came
        self._next_tick_s = self._last_tick_s = 0.0
        self._gaps_s: deque[float] = deque(maxlen=MOST_KEPT)
        self._firsts_s: deque[float] = deque(maxlen=MOST_KEPT)

    def adapt(self, key: str, path: str) -> None:
        """Refuse: raises UnsupportedModel."""
        raise UnsupportedModel("a stub takes no adapters")

    def adapted(self) -> list[tuple[str, CamelidError | None]]:
        """Return nothing."""
        return []

    def is_adapting(self) -> bool:
        """Return False."""
        return False

    def forget_adapter(self, key: str) -> None:
        """Do nothing."""

    def submit(self, request: GenerateRequest) -> None:
        """Take a request in; nobody is refused."""
        self._running[request.id] = (request, 0)
        self._new[request.id] = time.monotonic()

    def abort(self, request_id: str, choice: int | None = None) -> None:
        """Forget a request."""
        self._running.pop(request_id, None)
        self._new.pop(request_id, None)

    def has_work(self) -> bool:
        """True while a request runs."""
        return bool(self._running)

    def submit_texts(self, request: EmbedRequest) -> None:
        """Refuse: raises InvalidRequest."""
        raise InvalidRequest("the stub makes no embeddings", field="model")

    def embed(self) -> list[Embedded]:
        """Do nothing: there are no texts."""
        return []

    def has_texts(self) -> bool:
        """Return False: there are no texts."""
        return False

    def warm_up(self) -> float:
        """Return what a step takes."""
        return self._period_s

    def learn(self, vocabulary: object) -> None:
        """Need no vocabulary: it follows no grammar."""

    def prepare(self, request: GenerateRequest) -> None:
        """Have nothing to wait for."""

    def stats(self) -> dict[str, float]:
        """Return how many requests run."""
        return {"sequences_running": len(self._running), "sequences_waiting": 0}

    def close(self) -> None:
        """Write what the engine's own times were."""
        self._file.write_text(json.dumps({"gaps_s": list(self._gaps_s), "firsts_s": list(self._firsts_s)}))

    def step(self) -> list[Token]:
        """Give the new requests their first token, or all others their next one when it is time."""
        if self._new:
            return self._first_tokens()
        paced = [request_id for request_id, (request, _) in self._running.items() if request.max_tokens != IDLE_TOKENS]
        if not paced:
            time.sleep(IDLE_STEP_S)
            return []
        return self._tick(paced)

    def _first_tokens(self) -> list[Token]:
        now = time.monotonic()
        self._firsts_s.extend(now - came for came in self._new.values())
        wanted, self._new = list(self._new), {}
        return [self._token(request_id) for request_id in wanted]

    def _tick(self, paced: list[str]) -> list[Token]:
        now = time.monotonic()
        time.sleep(max(0.0, self._next_tick_s - now))
        now = time.monotonic()
        if now - self._last_tick_s < 10 * self._period_s:  # else there was a pause: nothing ran
            self._gaps_s.append(now - self._last_tick_s)
        self._last_tick_s = now
        self._next_tick_s = max(
            self._next_tick_s + self._period_s, now + self._period_s / 2
        )  # late, but never in bursts
        return [self._token(request_id) for request_id in paced]

    def _token(self, request_id: str) -> Token:
        request, index = self._running[request_id]
        finish = FinishReason.LENGTH if index + 1 >= request.max_tokens else None
        if finish is None:
            self._running[request_id] = (request, index + 1)
        else:
            del self._running[request_id]
        return Token(request_id, 0, index, self._token_id, finish)


def run() -> None:
    """Serve as an engine process, on the cores that the front does not use: the last of the arguments before FD."""
    rate, token_id, file, cores = sys.argv[1:5]
    del sys.argv[1:5]
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    stub = StubEngine(float(rate), int(token_id), Path(file))
    main(lambda load, say: (stub, "stub"))


if __name__ == "__main__":
    run()
