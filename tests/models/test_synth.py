"""Synthetic models are what their name says, for every reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import all_logits

from camelid.backends.reference import ReferenceBackend
from camelid.errors import InvalidRequest
from camelid.formats import open_checkpoint
from camelid.formats.checkpoint import read
from camelid.models.load import load_model, read_spec
from camelid.models.mixes import MIXES
from camelid.models.shapes import shape_spec
from camelid.models.synth import write_synthetic

IDS = np.random.default_rng(3).integers(0, 256, 40).tolist()


@pytest.mark.parametrize("quant", MIXES)
def test_a_tiny_model_of_every_quantization_loads_and_gives_logits_that_spread(tmp_path: Path, quant: str) -> None:
    write_synthetic(tmp_path / "tiny.gguf", "tiny", quant)

    with open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:
        backend = ReferenceBackend()
        logits = all_logits(load_model(checkpoint, backend), backend, IDS)

        assert read_spec(checkpoint) == shape_spec("tiny")
    assert logits.shape == (40, 512)
    assert 0.7 < logits.std() < 1.5
    assert len(set(logits.argmax(axis=1).tolist())) > 10


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic(tmp_path / name, "tiny", "Q4_K_M", seed=seed)

    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again
    assert len(first) == len(other)
    assert first != other


def test_the_gguf_package_reads_a_synthetic_file_as_we_do(tmp_path: Path) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    write_synthetic(tmp_path / "tiny.gguf", "tiny", "Q4_K_M", num_layers=3)

    theirs = GGUFReader(tmp_path / "tiny.gguf")
    with open_checkpoint(tmp_path / "tiny.gguf") as ours:
        assert {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in theirs.tensors} == {
            name: info.shape for name, info in ours.tensors.items()
        }
        for tensor in theirs.tensors:
            np.testing.assert_array_equal(dequantize(tensor.data, tensor.tensor_type), read(ours, tensor.name))
        metadata = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
        assert metadata == {
            key: value if isinstance(value, str) else _plain(value) for key, value in ours.metadata.items()
        }
    assert metadata["general.file_type"] == 15
    assert metadata["llama.block_count"] == 3
    assert len(metadata["tokenizer.ggml.tokens"]) == 512


def _plain(value: object) -> object:
    return list(value) if hasattr(value, "__len__") else value  # type: ignore[call-overload]


def test_a_cut_model_shares_its_layers_with_the_longer_one(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "long", "tiny", "F16")
    write_synthetic(tmp_path / "short", "tiny", "F16", num_layers=1)

    with open_checkpoint(tmp_path / "long") as long, open_checkpoint(tmp_path / "short") as short:
        assert set(short.tensors) < set(long.tensors)
        for name in short.tensors:
            np.testing.assert_array_equal(short.raw(name), long.raw(name))


def test_weights_are_normal_with_the_variance_that_keeps_activations_in_size(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "tiny.gguf", "tiny", "F32")

    with open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:
        gate = read(checkpoint, "blk.0.ffn_gate.weight")
        norm = read(checkpoint, "blk.2.ffn_norm.weight")
    assert abs(float(gate.std()) * 256**0.5 - 1) < 0.02
    assert abs(float(gate.mean())) < 1e-3
    assert abs(float((gate**4).mean() / gate.var() ** 2) - 3) < 0.1
    assert 0.05 < float(norm.std()) < 0.15


@pytest.mark.parametrize(
    ("name", "num_weights"), [("1b", 1.24e9), ("3b", 3.21e9), ("8b", 8.03e9), ("70b", 70.6e9), ("405b", 405.9e9)]
)
def test_shapes_have_the_published_number_of_weights(name: str, num_weights: float) -> None:
    from math import prod

    from camelid.models.weights import all_slots

    assert sum(prod(slot.shape) for slot in all_slots(shape_spec(name))) == pytest.approx(num_weights, rel=0.005)


@pytest.mark.parametrize(
    ("shape", "quant", "num_layers", "message"),
    [
        ("2b", "Q4_K_M", None, "no shape is called '2b'"),
        ("tiny", "Q4_K_XL", None, "no quantization is called 'Q4_K_XL'"),
        ("tiny", "F16", 0, "the number of layers must be 1–4096, got 0"),
        ("tiny", "F16", 5000, "the number of layers must be 1–4096, got 5000"),
    ],
)
def test_what_is_not_known_is_refused_before_anything_is_written(
    tmp_path: Path, shape: str, quant: str, num_layers: int | None, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        write_synthetic(tmp_path / "model.gguf", shape, quant, num_layers=num_layers)

    assert list(tmp_path.iterdir()) == []
