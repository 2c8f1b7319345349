"""Texts become vectors: equal to Transformers' hidden states, pooled; and not depending on how the work was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from llama_checkpoints import gguf_checkpoint, transformers_model
from numpy.typing import NDArray

from camelid.backends.base import Backend, CacheType
from camelid.backends.reference import ReferenceBackend
from camelid.engine.engine import Engine
from camelid.engine.request import EmbedRequest, GenerateRequest
from camelid.engine.settings import EngineSettings
from camelid.errors import ContextOverflow, InvalidRequest, Overloaded
from camelid.models.load import Model, load_model
from camelid.models.rope import attention_spec
from camelid.models.spec import Pooling
from camelid.types import Sampling

RANDOM = np.random.default_rng(3)
TEXTS = tuple(tuple(RANDOM.integers(0, 97, length).tolist()) for length in (1, 40, 7, 64, 33, 2))
SETTINGS = EngineSettings(vocabulary_size=97, context_length=96, num_pages=6, max_batch_tokens=50, max_sequences=2)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return transformers_model({}).double()


def cpu() -> Backend:
    backend = pytest.importorskip("camelid.backends.cpu.backend", reason="the cpu backend's extension is not built")
    made: Backend = backend.CpuBackend(threads=2)
    return made


BACKENDS = {"reference": ReferenceBackend, "cpu": cpu}


def engine_of(theirs: Any, pooling: Pooling | None, backend: Backend, settings: EngineSettings = SETTINGS) -> Engine:
    checkpoint = gguf_checkpoint(theirs.float())
    if pooling is not None:
        checkpoint.metadata["llama.pooling_type"] = pooling.value
    model: Model = load_model(checkpoint, backend)
    backend.open_pages(attention_spec(model.spec), CacheType.F32, settings.num_pages)
    return Engine(model, backend, settings, encoder=model)


def vectors_of(engine: Engine, texts: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    engine.submit_texts(EmbedRequest("e", tuple(texts)))
    complete = []
    while engine.has_texts():
        complete += engine.embed()
    (found,) = complete
    assert engine.stats()["pages_held"] == 0
    return np.stack([np.frombuffer(vector, np.float32) for vector in found.vectors])


def their_vectors(theirs: Any, pooling: Pooling) -> NDArray[np.float64]:
    pool = {
        Pooling.MEAN: lambda hidden: hidden.mean(0),
        Pooling.CLS: lambda hidden: hidden[0],
        Pooling.LAST: lambda hidden: hidden[-1],
    }[pooling]
    with torch.no_grad():
        rows = [pool(theirs.double().model(torch.tensor([ids])).last_hidden_state[0]) for ids in TEXTS]
    return np.stack([torch.nn.functional.normalize(row, dim=0).numpy() for row in rows])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS, Pooling.LAST])
def test_vectors_equal_the_pooled_hidden_states_of_transformers(theirs: Any, pooling: Pooling, backend: str) -> None:
    found = vectors_of(engine_of(theirs, pooling, BACKENDS[backend]()), TEXTS)
    np.testing.assert_allclose(found, their_vectors(theirs, pooling), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_a_model_that_says_nothing_is_pooled_by_its_last_token(theirs: Any) -> None:
    found = vectors_of(engine_of(theirs, None, ReferenceBackend()), TEXTS)
    np.testing.assert_allclose(found, their_vectors(theirs, Pooling.LAST), atol=2e-6)


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS, Pooling.LAST])
def test_a_vector_has_the_same_bits_alone_among_others_and_however_its_text_is_cut(
    theirs: Any, pooling: Pooling
) -> None:
    together = vectors_of(engine_of(theirs, pooling, cpu()), TEXTS)
    for max_batch_tokens in (3, 32, 1000):
        settings = replace(SETTINGS, max_batch_tokens=max_batch_tokens)
        engine = engine_of(theirs, pooling, cpu(), settings)
        alone = np.concatenate([vectors_of(engine, [text]) for text in TEXTS])
        np.testing.assert_array_equal(alone, together)


def test_answers_and_texts_go_on_side_by_side(theirs: Any) -> None:
    alone = vectors_of(engine_of(theirs, Pooling.MEAN, ReferenceBackend()), TEXTS)
    engine = engine_of(theirs, Pooling.MEAN, ReferenceBackend())
    asked = GenerateRequest("g", TEXTS[1], Sampling(temperature=0.0), max_tokens=8)
    engine.submit(asked)
    expected = tokens_of(engine)
    engine.submit(asked)
    engine.submit_texts(EmbedRequest("e", TEXTS))
    tokens, complete = [], []
    while engine.has_work() or engine.has_texts():
        tokens += [token.id for token in engine.step()]
        complete += engine.embed()
    assert tokens == expected
    np.testing.assert_array_equal([np.frombuffer(vector, np.float32) for vector in complete[0].vectors], alone)


def tokens_of(engine: Engine) -> list[int]:
    tokens = []
    while engine.has_work():
        tokens += [token.id for token in engine.step()]
    return tokens


def test_a_text_that_waits_for_pages_gets_them_before_the_next_answer_starts(theirs: Any) -> None:
    """Two answers at a time hold five pages of six, and there is always another one waiting."""
    engine = engine_of(theirs, Pooling.MEAN, ReferenceBackend())
    for number in range(6):
        prompt = (number, *TEXTS[3][:40])
        engine.submit(GenerateRequest(f"g{number}", prompt, Sampling(temperature=0.0), max_tokens=24))
    engine.step()
    engine.submit_texts(EmbedRequest("e", (tuple(range(96)),)))  # three pages
    complete, num_left = [], 6
    while not complete:
        num_left -= sum(token.finish is not None for token in engine.step())
        complete = engine.embed()
    assert num_left > 0
    tokens_of(engine)
    assert engine.stats()["pages_held"] == 0


def test_a_request_that_is_given_up_leaves_nothing_behind(theirs: Any) -> None:
    engine = engine_of(theirs, Pooling.MEAN, ReferenceBackend(), replace(SETTINGS, max_batch_tokens=16))
    engine.submit_texts(EmbedRequest("e", TEXTS))
    engine.embed()
    assert engine.stats()["pages_held"] > 0
    engine.abort("e")
    assert not engine.has_texts()
    assert engine.stats()["pages_held"] == 0
    assert vectors_of(engine, TEXTS[:1]).shape == (1, 64)


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ((tuple(range(97)),), ContextOverflow),
        (((1, 97),), InvalidRequest),
        (((-1,),), InvalidRequest),
        (((),), InvalidRequest),
        ((), InvalidRequest),
    ],
)
def test_what_cannot_be_read_is_refused_before_it_is_queued(theirs: Any, texts: Any, error: type[Exception]) -> None:
    engine = engine_of(theirs, Pooling.MEAN, ReferenceBackend())
    with pytest.raises(error):
        engine.submit_texts(EmbedRequest("e", texts))
    assert not engine.has_texts()


def test_the_queue_is_bounded(theirs: Any) -> None:
    engine = engine_of(theirs, Pooling.MEAN, ReferenceBackend(), replace(SETTINGS, max_waiting=1))
    for number in range(3):
        engine.submit_texts(EmbedRequest(str(number), TEXTS[:1]))
    with pytest.raises(Overloaded):
        engine.submit_texts(EmbedRequest("3", TEXTS[:1]))
