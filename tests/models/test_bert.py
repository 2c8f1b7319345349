"""Models that only read: equal to Transformers on random weights, on every backend, however texts are batched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from bert_checkpoints import bert, bert_checkpoint, nomic, nomic_checkpoint, xlm_roberta, xlm_roberta_checkpoint
from numpy.typing import NDArray
from tiny_models import MemoryCheckpoint, batch_of, relative_rms

from camelid.backends.base import Array, Backend, Batch, Ops
from camelid.backends.reference import ReferenceBackend
from camelid.engine.encoder_engine import EncoderEngine
from camelid.engine.request import EmbedRequest, GenerateRequest
from camelid.engine.settings import EngineSettings
from camelid.errors import InvalidRequest, MissingTensor, ModelError, UnsupportedModel
from camelid.formats.blocks import BlockType
from camelid.models.load import Model, load_model, read_spec
from camelid.models.spec import Pooling
from camelid.types import Sampling

RANDOM = np.random.default_rng(3)
TEXTS = tuple(tuple(RANDOM.integers(0, 97, length).tolist()) for length in (1, 40, 7, 128, 33, 2))
SETTINGS = EngineSettings(vocabulary_size=97, context_length=128, num_pages=4, max_batch_tokens=50)


class Hidden:
    """A model's hidden states, or its scores, where a backend expects logits."""

    def __init__(self, compute: Callable[[Ops, Batch], Array]) -> None:
        self.forward = compute


def cpu() -> Backend:
    backend = pytest.importorskip("camelid.backends.cpu.backend", reason="the cpu backend's extension is not built")
    made: Backend = backend.CpuBackend(threads=2)
    return made


def gpu() -> Backend:
    from camelid.backends.gpu.backend import GpuBackend

    return GpuBackend(torch.device("cpu"), torch.float32)


BACKENDS: dict[str, tuple[Callable[[], Backend], float]] = {
    "reference": (ReferenceBackend, 1e-9),
    "cpu": (cpu, 3e-6),
    "gpu": (gpu, 3e-6),
}
bert, nomic, xlm_roberta = map(cache, (bert, nomic, xlm_roberta))
MODELS: dict[str, tuple[Callable[[], Any], Callable[..., MemoryCheckpoint]]] = {
    "bert": (bert, bert_checkpoint),
    "wide feed-forward layers": (
        lambda: bert(intermediate_size=256, hidden_size=96, num_attention_heads=3),
        bert_checkpoint,
    ),
    "nomic": (nomic, nomic_checkpoint),
}


def their_hidden(theirs: Any, ids: tuple[int, ...], segments: list[int] | None = None) -> NDArray[np.float64]:
    types = None if segments is None else torch.tensor([segments])
    with torch.no_grad():
        hidden = theirs.double()(torch.tensor([ids]), token_type_ids=types).last_hidden_state[0]
    return np.asarray(hidden.numpy())


def hidden_of(model: Model, backend: Backend, batch: Batch) -> NDArray[np.float64]:
    return np.asarray(backend.run(Hidden(model.hidden), batch), np.float64)


@pytest.mark.parametrize(
    ("name", "where"), [*product(("bert", "nomic"), BACKENDS), ("wide feed-forward layers", "cpu")]
)
def test_hidden_states_equal_those_of_transformers(name: str, where: str) -> None:
    make, convert = MODELS[name]
    theirs = make()
    open_backend, bound = BACKENDS[where]
    backend = open_backend()
    model = load_model(convert(theirs), backend)

    found = hidden_of(model, backend, batch_of([(ids, 0, [0]) for ids in TEXTS]))

    expected = np.concatenate([their_hidden(theirs, ids) for ids in TEXTS])
    # Transformers turns Nomic's queries and keys by angles of 32 bits
    assert relative_rms(found, expected) < (max(bound, 1e-6) if name == "nomic" else bound)


@pytest.mark.parametrize("where", BACKENDS)
def test_the_second_text_of_a_pair_has_its_own_segment(where: str) -> None:
    theirs = bert()
    open_backend, bound = BACKENDS[where]
    backend = open_backend()
    segments = [0] * 15 + [1] * 25
    batch = replace(batch_of([(TEXTS[1], 0, [0])]), segments=np.array(segments, np.int32))

    found = hidden_of(load_model(bert_checkpoint(theirs), backend), backend, batch)

    assert relative_rms(found, their_hidden(theirs, TEXTS[1], segments)) < bound
    assert relative_rms(found, their_hidden(theirs, TEXTS[1])) > 1e-3


@pytest.mark.parametrize(("where", "num_labels"), [("reference", 3), ("cpu", 1), ("gpu", 1)])
def test_scores_equal_those_of_transformers(where: str, num_labels: int) -> None:
    theirs = bert(num_labels=num_labels).double()
    open_backend, bound = BACKENDS[where]
    backend = open_backend()
    model = load_model(bert_checkpoint(theirs, pooling_type=4), backend)

    found = backend.run(Hidden(model.scores), batch_of([(ids, 0, [0]) for ids in TEXTS]))

    with torch.no_grad():
        expected = np.concatenate([theirs(torch.tensor([ids])).logits.numpy() for ids in TEXTS])
    np.testing.assert_allclose(found, expected, atol=max(10 * bound, 1e-7))


def test_a_model_with_one_segment_puts_both_texts_of_a_pair_into_it() -> None:
    theirs = xlm_roberta().double()
    backend = ReferenceBackend()
    ids = tuple(token for token in TEXTS[1] if token != 1)  # the padding token has no position
    batch = replace(batch_of([(ids, 0, [0])]), segments=np.arange(len(ids), dtype=np.int32) // 20)

    found = backend.run(Hidden(load_model(xlm_roberta_checkpoint(theirs), backend).scores), batch)

    with torch.no_grad():
        np.testing.assert_allclose(found, theirs(torch.tensor([ids])).logits.numpy(), atol=1e-6)


def vectors_of(engine: EncoderEngine, texts: tuple[tuple[int, ...], ...]) -> NDArray[np.float32]:
    engine.submit_texts(EmbedRequest("e", texts))
    complete = []
    while engine.has_texts():
        complete += engine.embed()
    return np.stack([np.frombuffer(vector, np.float32) for vector in complete[0].vectors])


@pytest.mark.parametrize(("pooling", "name"), [(1, "bert"), (2, "bert"), (3, "bert"), (1, "nomic")])
def test_the_engine_pools_them_and_the_batch_changes_no_bit(pooling: int, name: str) -> None:
    make, convert = MODELS[name]
    theirs = make()
    backend = cpu()
    model = load_model(convert(theirs, pooling_type=pooling), backend)

    found = vectors_of(EncoderEngine(model, backend, SETTINGS), TEXTS)

    pool = {1: lambda rows: rows.mean(0), 2: lambda rows: rows[0], 3: lambda rows: rows[-1]}[pooling]
    rows = [pool(their_hidden(theirs, ids)) for ids in TEXTS]
    np.testing.assert_allclose(found, [row / np.linalg.norm(row) for row in rows], atol=3e-6)
    for most in (1, 1000):
        engine = EncoderEngine(model, backend, replace(SETTINGS, max_batch_tokens=most))
        alone = np.concatenate([vectors_of(engine, (text,)) for text in TEXTS])
        np.testing.assert_array_equal(alone, found)


def test_quantized_weights_change_little() -> None:
    theirs = bert(hidden_size=256, intermediate_size=512)
    exact = bert_checkpoint(theirs)
    rounded = MemoryCheckpoint(exact.metadata, {})
    for name, info in exact.tensors.items():
        kind = BlockType.Q8_0 if ".attn_" in name + "." and len(info.shape) == 2 else info.block_type
        rounded.add(name, exact.raw(name).view(np.float32).reshape(info.shape), kind)
    backend = cpu()
    batch = batch_of([(ids, 0, [0]) for ids in TEXTS])

    found = hidden_of(load_model(rounded, backend), backend, batch)

    assert 1e-4 < relative_rms(found, hidden_of(load_model(exact, backend), backend, batch)) < 0.05


def test_there_is_nothing_to_generate_with() -> None:
    backend = ReferenceBackend()
    engine = EncoderEngine(load_model(bert_checkpoint(bert()), backend), backend, SETTINGS)
    with pytest.raises(InvalidRequest, match="does not support generate"):
        engine.submit(GenerateRequest("g", (1,), Sampling(), 1))
    assert (engine.step(), engine.has_work()) == ([], False)
    assert engine.warm_up() >= 0


def test_what_a_file_says_is_read() -> None:
    spec = read_spec(bert_checkpoint(bert(), pooling_type=2))
    assert (spec.architecture, spec.pooling, spec.context_length, spec.rope.rotary_dim) == ("bert", Pooling.CLS, 128, 0)
    assert read_spec(nomic_checkpoint(nomic())).rope.theta == 1000.0
    assert read_spec(bert_checkpoint(bert(num_labels=1))).pooling is Pooling.RANK


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"attention.causal": True}, UnsupportedModel),
        ({"attention.max_alibi_bias": 8.0}, UnsupportedModel),
        ({"expert_count": 8}, UnsupportedModel),
        ({"pooling_type": 4}, UnsupportedModel),
        ({"pooling_type": 9}, UnsupportedModel),
        ({"attention.head_count": 5}, ModelError),
        ({"attention.layer_norm_epsilon": "x"}, ModelError),
        ({"block_count": 4}, MissingTensor),
        ({"feed_forward_length": 97}, MissingTensor),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        load_model(bert_checkpoint(bert(), **changes), ReferenceBackend())


@pytest.mark.parametrize("name", ["token_embd_norm.bias", "blk.1.attn_output_norm.bias", "blk.2.attn_k.weight"])
def test_a_missing_weight_is_named(name: str) -> None:
    checkpoint = bert_checkpoint(bert())
    del checkpoint.tensors[name]
    with pytest.raises(MissingTensor, match=name):
        load_model(checkpoint, ReferenceBackend())
