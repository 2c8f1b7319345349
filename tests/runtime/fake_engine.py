"""A fake engine, in process or as an engine process of its own (`python fake_engine.py FD`).

Its tokens depend on (seed, choice, position) and the ids before, as a real engine's do, so a resumed answer can be
told from a wrong one. Some prompts make it misbehave.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from camelid.engine.request import Embedded, EmbedRequest, GenerateRequest, Token
from camelid.errors import CamelidError, FormatError, InvalidRequest, NotFound, Overloaded, RequestsFailed
from camelid.grammar.vocabulary import Vocabulary
from camelid.runtime.frames import Load
from camelid.types import FinishReason

END_ID = 2
KILLS = 666  # a prompt with this id ends the process in the step that reads it
KILLS_LATER = 667  # … with the answer's sixth token
FAILS = 668  # the engine gives this request up
HANGS = 669  # the step never ends
REFUSED = 670


@dataclass
class _Sequence:
    request: GenerateRequest
    answers: list[list[int]]
    finished: set[int] = field(default_factory=set)


class FakeEngine:
    """One token per choice and step for up to `max_sequences` requests; the rest wait."""

    def __init__(self, max_sequences: int = 16, max_waiting: int = 256, step_s: float = 0.0) -> None:
        self._max_sequences = max_sequences
        self._max_waiting = max_waiting
        self._step_s = step_s
        self._sequences: dict[str, _Sequence] = {}
        self._num_steps = 0
        self._texts: list[EmbedRequest] = []
        self._adapting: list[str] = []
        self._adapters: list[str] = []

    def learn(self, vocabulary: Vocabulary) -> None:
        pass

    def prepare(self, request: GenerateRequest) -> None:
        return None

    def adapt(self, key: str, path: str) -> None:
        if path == "missing":
            raise NotFound("there is no such adapter")
        self._adapting.append(key)

    def adapted(self) -> list[tuple[str, CamelidError | None]]:
        done, self._adapting = self._adapting, []
        self._adapters += done
        return [(key, None) for key in done]

    def is_adapting(self) -> bool:
        return bool(self._adapting)

    def forget_adapter(self, key: str) -> None:
        self._adapters.remove(key)

    def submit(self, request: GenerateRequest) -> None:
        if request.adapter and request.adapter not in self._adapters:
            raise InvalidRequest("the adapter is not loaded", field="model")
        if REFUSED in request.prompt:
            raise InvalidRequest("the prompt is refused", field="prompt")
        if len(self._sequences) >= self._max_sequences + self._max_waiting:
            raise Overloaded("the queue is full", retry_after_s=2.5)
        answers = [list(ids) for ids in request.answers] or [[] for _ in range(request.num_choices)]
        self._sequences[request.id] = _Sequence(request, answers, set(request.finished))

    def abort(self, request_id: str, choice: int | None = None) -> None:
        self._texts = [request for request in self._texts if request.id != request_id]
        sequence = self._sequences.get(request_id)
        if sequence is not None and choice is not None:
            sequence.finished.add(choice)
        if sequence is not None and (choice is None or len(sequence.finished) == sequence.request.num_choices):
            del self._sequences[request_id]

    def submit_texts(self, request: EmbedRequest) -> None:
        if any(REFUSED in ids for ids in request.texts):
            raise InvalidRequest("the text is refused", field="input")
        self._texts.append(request)

    def has_texts(self) -> bool:
        return bool(self._texts)

    def embed(self) -> list[Embedded]:
        request = self._texts.pop(0)
        if any(KILLS in ids for ids in request.texts):
            os.kill(os.getpid(), 9)
        return [Embedded(request.id, tuple(bytes(ids) for ids in request.texts))]

    def warm_up(self) -> float:
        return 0.001

    def has_work(self) -> bool:
        return bool(self._sequences)

    def close(self) -> None:
        pass

    def stats(self) -> dict[str, float]:
        running = min(len(self._sequences), self._max_sequences)
        return {
            "sequences_running": running,
            "sequences_waiting": len(self._sequences) - running,
            "steps": self._num_steps,
        }

    def step(self) -> list[Token]:
        time.sleep(self._step_s)
        self._num_steps += 1
        running = list(self._sequences.values())[: self._max_sequences]
        for sequence in running:
            self._misbehave(sequence)
        tokens = [
            self._next(sequence, choice)
            for sequence in running
            for choice in range(sequence.request.num_choices)
            if choice not in sequence.finished
        ]
        for sequence in running:
            if len(sequence.finished) == sequence.request.num_choices:
                del self._sequences[sequence.request.id]
        return tokens

    def _misbehave(self, sequence: _Sequence) -> None:
        prompt = sequence.request.prompt
        if KILLS in prompt or (KILLS_LATER in prompt and len(sequence.answers[0]) == 5):
            os.kill(os.getpid(), 9)
        if HANGS in prompt:
            time.sleep(1e6)
        if FAILS in prompt:
            del self._sequences[sequence.request.id]
            raise RequestsFailed((sequence.request.id,), "its logits hold NaN")

    def _next(self, sequence: _Sequence, choice: int) -> Token:
        request, answer = sequence.request, sequence.answers[choice]
        answer.append(drawn(request, choice, answer))
        finish = None
        if answer[-1] in request.end_ids:
            finish = FinishReason.STOP
        elif len(answer) >= request.max_tokens:
            finish = FinishReason.LENGTH
        if finish is not None:
            sequence.finished.add(choice)
        return Token(request.id, choice, len(answer) - 1, answer[-1], finish)


def drawn(request: GenerateRequest, choice: int, answer: list[int]) -> int:
    """Return the next id: a hash of all that may decide it."""
    state = repr((request.sampling.seed, choice, request.prompt, answer)).encode()
    return int.from_bytes(blake2b(state, digest_size=4).digest(), "little") % 600 + 1


def undisturbed(request: GenerateRequest) -> list[list[int]]:
    """Return the answers that an engine gives which nothing happens to."""
    answers: list[list[int]] = []
    for choice in range(request.num_choices):
        answer: list[int] = []
        while len(answer) < request.max_tokens and (not answer or answer[-1] not in request.end_ids):
            answer.append(drawn(request, choice, answer))
        answers.append(answer)
    return answers


def open_fake(load: Load, say: Callable[[str], None]) -> tuple[FakeEngine, str]:
    say("placing weights")
    if load.path == "broken":
        raise FormatError(load.path, "magic", "abcd", "it must be GGUF", hint="download it again")
    if load.path == "crashes":
        os.kill(os.getpid(), 9)
    step_s = float(load.path.removeprefix("slow-")) if load.path.startswith("slow-") else 0.001
    settings = load.settings
    return FakeEngine(settings.max_sequences, settings.max_waiting, step_s), "fake"


if __name__ == "__main__":
    from camelid.runtime.worker import main

    main(open_fake)
