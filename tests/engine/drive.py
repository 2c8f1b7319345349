"""Short words for tests that drive an engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tests.engine.oracle import answer_of, check_invariants
from tests.fakes import FakeBackend, FakeModel

from camelid.engine.engine import Engine
from camelid.engine.request import GenerateRequest, Token
from camelid.engine.settings import EngineSettings
from camelid.types import Sampling

VOCABULARY = 48
Answers = dict[tuple[str, int], list[Token]]  # by request id and choice


def fake_engine(backend: FakeBackend | None = None, **settings: Any) -> Engine:
    """Return an engine on the fake backend: 200 tokens of context and 40 pages unless told otherwise."""
    numbers = {"vocabulary_size": VOCABULARY, "context_length": 200, "num_pages": 40, **settings}
    backend = backend or FakeBackend(numbers["num_pages"], VOCABULARY)
    return Engine(FakeModel(), backend, EngineSettings(**numbers))


def request(id_: str = "r", length: int = 40, *, first: int = 0, **fields: Any) -> GenerateRequest:
    """Return a request whose prompt of `length` ids counts up from `first`, for 10 tokens unless told otherwise."""
    prompt = tuple((first + number) % VOCABULARY for number in range(length))
    return GenerateRequest(**{"id": id_, "prompt": prompt, "sampling": Sampling(seed=1), "max_tokens": 10, **fields})


def run_to_end(engine: Engine, submits: Iterable[GenerateRequest] = ()) -> Answers:
    """Submit, step until nothing is left to do, checking the books, and return the tokens by request and choice."""
    for each in submits:
        engine.submit(each)
    answers: Answers = defaultdict(list)
    while engine.has_work():
        for token in engine.step():
            answers[token.request_id, token.choice].append(token)
        check_invariants(engine)
    assert engine.stats()["pages_held"] == 0
    return dict(answers)


def expected(*requests: GenerateRequest, context_length: int = 200) -> Answers:
    """Return what the oracle answers to each request alone."""
    return {
        (each.id, choice): answer_of(each, choice, context_length, VOCABULARY)
        for each in requests
        for choice in range(each.num_choices)
    }


def without_cache(answers: Answers) -> Answers:
    """Return the answers with `cached_tokens` 0, which the oracle does not know."""
    return {key: [replace(token, cached_tokens=0) for token in tokens] for key, tokens in answers.items()}
