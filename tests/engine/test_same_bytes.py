"""The same request gives the same ids and log-probabilities, whatever else the engine does: decision 4.

Every case runs on the fake backend, where a mistake with pages shows, and on the cpu backend with a tiny model, where a
sum in another order would show: on every instruction set of this machine, with one thread and with two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.drive import Answers, run_to_end, without_cache
from tests.fakes import FakeBackend, FakeModel

from camelid.backends.base import Backend, CacheType, Forward
from camelid.engine.engine import Engine
from camelid.engine.request import GenerateRequest
from camelid.engine.settings import EngineSettings
from camelid.formats import open_checkpoint
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.models.synth import write_synthetic
from camelid.types import Sampling

try:
    from camelid.backends.cpu._native import available_isas
    from camelid.backends.cpu.backend import CpuBackend

    SLOW = "portable"  # so slow that one number of threads has to do
    CPU_PLACES = [f"cpu {isa} {n}" for isa in available_isas() for n in (1, 2) if (isa, n) != (SLOW, 1)]
except ImportError:
    CPU_PLACES = []

PLACES = ["fake", *CPU_PLACES]
CONTEXT = 160
WHOLE = 256  # a chunk that holds any prompt


@dataclass
class Place:
    """A backend with its model; `baseline` is what it answers to each request of REQUESTS alone."""

    name: str
    vocabulary_size: int
    open: Callable[[int], tuple[Forward, Backend]]
    baseline: Answers

    def engine(self, **settings: Any) -> Engine:
        """Return an engine with empty pages."""
        numbers = {"context_length": CONTEXT, "num_pages": 80, "max_batch_tokens": WHOLE, **settings}
        model, backend = self.open(numbers["num_pages"])
        return Engine(model, backend, EngineSettings(vocabulary_size=self.vocabulary_size, **numbers))


def requests() -> list[GenerateRequest]:
    """Return sixteen requests with prompts of 1 to 70 tokens, some of which begin alike, and all kinds of sampling."""
    samplings = [
        Sampling(temperature=0),
        Sampling(seed=2),
        Sampling(temperature=0.7, top_k=20, top_p=0.9, seed=3),
        Sampling(temperature=1.3, min_p=0.02, repetition_penalty=1.2, frequency_penalty=0.5, seed=4),
        Sampling(typical_p=0.8, logit_bias={5: 3.0}, presence_penalty=0.7, penalty_window=9, seed=5),
    ]
    lengths = [1, 2, 31, 32, 33, 40, 64, 65, 70, 5, 17, 50, 63, 34, 22, 8]
    return [
        GenerateRequest(
            id=f"r{number}",
            prompt=tuple((7 * place + (0 if place < 32 else number)) % 47 for place in range(length)),
            sampling=samplings[number % len(samplings)],
            max_tokens=8 + number // 2,
            end_ids=frozenset({11}),
            min_tokens=4,
            top_logprobs=3,
        )
        for number, length in enumerate(lengths)
    ]


REQUESTS = requests()
FORKED = replace(REQUESTS[5], id="forked", sampling=Sampling(seed=9), num_choices=3)
# Two tokens that come again and again, in no order: guesses are right now and then.
ECHOING = replace(REQUESTS[5], id="echoing", sampling=Sampling(seed=8, logit_bias={5: 60.0, 6: 60.0}), max_tokens=60)
GROWING = [replace(REQUESTS[n], id=f"growing{n}", end_ids=frozenset(), max_tokens=40) for n in (2, 12, 14)]


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_synthetic(path, "tiny", "Q4_K_M", seed=3, num_layers=2)
    return path


@pytest.fixture(scope="session")
def baselines() -> dict[str, Answers]:
    """Answers of `fake` and `cpu`, filled by the first place of each: all cpu places have to give the same."""
    return {}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, tiny_file: Path, baselines: dict[str, Answers]) -> Iterator[Place]:
    kind, *details = request.param.split()
    with open_checkpoint(tiny_file) as checkpoint:

        def open_fake(num_pages: int) -> tuple[Forward, Backend]:
            return FakeModel(), FakeBackend(num_pages)

        def open_cpu(num_pages: int) -> tuple[Forward, Backend]:
            backend = CpuBackend(isa=details[0], threads=int(details[1]))
            model = load_model(checkpoint, backend)
            backend.open_pages(attention_spec(model.spec), CacheType.F16, num_pages)
            return model, backend

        found = Place(request.param, 48, open_fake, {}) if kind == "fake" else Place(request.param, 512, open_cpu, {})
        if kind not in baselines:
            alone = (run_to_end(found.engine(), [each]) for each in (*REQUESTS, FORKED, ECHOING, *GROWING))
            baselines[kind] = {key: tokens for answers in alone for key, tokens in answers.items()}
        found.baseline = baselines[kind]
        yield found


def expect(place: Place, answers: Answers, asked: list[GenerateRequest]) -> None:
    keys = {(each.id, choice) for each in asked for choice in range(each.num_choices)}
    assert without_cache(answers) == {key: place.baseline[key] for key in keys}


def test_the_cpu_backend_is_among_the_places():
    if not CPU_PLACES:
        pytest.skip("the extension of the cpu backend is not built here")
    assert "cpu portable 2" in PLACES


def test_answers_differ_between_requests(place):
    assert len({tuple(token.id for token in tokens) for tokens in place.baseline.values()}) > 15


def test_alone(place):
    for each in REQUESTS[::5]:
        expect(place, run_to_end(place.engine(), [each]), [each])


def test_in_a_batch_of_sixteen(place):
    expect(place, run_to_end(place.engine(), REQUESTS), REQUESTS)


@pytest.mark.parametrize("chunk", [1, 7, 13])
def test_in_odd_chunks(place, chunk):
    asked = REQUESTS[4:9]
    expect(place, run_to_end(place.engine(max_batch_tokens=chunk), asked[-1:]), asked[-1:])
    expect(place, run_to_end(place.engine(max_batch_tokens=chunk), asked), asked)


def test_after_a_prefix_hit(place):
    engine = place.engine()
    run_to_end(engine, REQUESTS)
    before = engine.stats()["reused_tokens"]
    asked = REQUESTS[3:9]
    for each in asked:
        expect(place, run_to_end(engine, [each]), [each])
    prompts = sum((len(each.prompt) - 1) // 32 * 32 for each in asked)
    assert engine.stats()["reused_tokens"] - before >= prompts


def test_after_preemption(place):
    engine = place.engine(num_pages=5)
    expect(place, run_to_end(engine, GROWING), GROWING)
    assert engine.stats()["preemptions"] > 0


def test_as_several_choices_of_one_prompt(place):
    expect(place, run_to_end(place.engine(max_batch_tokens=13), [FORKED, *REQUESTS]), [FORKED, *REQUESTS])


@pytest.mark.parametrize("number", [4, 8])
def test_resumed_at_every_position(place, number):
    asked = REQUESTS[number]
    whole = place.baseline[asked.id, 0]
    engine = place.engine(max_batch_tokens=13)
    for kept in range(len(whole)):
        resumed = replace(asked, answers=(tuple(token.id for token in whole[:kept]),))
        assert without_cache(run_to_end(engine, [resumed])) == {(asked.id, 0): whole[kept:]}


def test_resumed_in_the_middle_of_several_choices_on_another_engine(place):
    whole = [place.baseline["forked", choice] for choice in range(3)]
    answers = tuple(tuple(token.id for token in whole[choice][:kept]) for choice, kept in enumerate((2, 0, 4)))
    resumed = replace(FORKED, answers=answers, finished=frozenset({1}))
    found = without_cache(run_to_end(place.engine(), [resumed]))
    assert found == {("forked", 0): whole[0][2:], ("forked", 2): whole[2][4:]}


@pytest.mark.parametrize("most", [1, 6])
def test_with_guessed_tokens(place, most):
    engine = place.engine(max_guessed=most)
    expect(place, run_to_end(engine, [ECHOING]), [ECHOING])
    stats = engine.stats()
    assert 0 < stats["right_guesses"] < stats["guessed_tokens"]
    assert stats["steps"] < ECHOING.max_tokens
    asked = [FORKED, ECHOING, *GROWING]
    expect(place, run_to_end(place.engine(max_guessed=most, num_pages=9), asked), asked)


def test_after_a_failed_step(place):
    engine = place.engine(max_batch_tokens=30)
    backend = engine._executor._backend
    run = backend.run
    calls = iter(range(10**6))

    def failing_run(*arguments: Any) -> Any:
        result = run(*arguments)  # fails after all has been written
        if next(calls) % 3 == 0:
            raise OSError("the device fell over")
        return result

    backend.run = failing_run
    step = engine.step

    def stubborn_step() -> Any:
        try:
            return step()
        except OSError:
            return []

    engine.step = stubborn_step
    expect(place, run_to_end(engine, [FORKED, *REQUESTS]), [FORKED, *REQUESTS])


def test_with_everything_at_once(place):
    engine = place.engine(num_pages=7, max_batch_tokens=11, max_sequences=9)
    asked = [*GROWING, *REQUESTS, FORKED]
    expect(place, run_to_end(engine, asked), asked)
