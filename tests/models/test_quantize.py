"""A GGUF file in another quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camelid.errors import InvalidRequest, NotFound
from camelid.formats import open_checkpoint
from camelid.formats.blocks import decode
from camelid.formats.checkpoint import read
from camelid.models.load import read_spec, used_tensors
from camelid.models.mixes import block_type, find_mix
from camelid.models.quantize import quantize
from camelid.models.synth import write_synthetic

# Relative error of a normal weight in each type, rounded up: what the format allows, not what a bug would give.
WORST = {"Q8_0": 0.007, "Q6_K": 0.02, "Q5_K": 0.04, "Q4_K": 0.09, "Q4_0": 0.12, "F16": 0.0005, "F32": 0.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_synthetic(path, "tiny", "F16", seed=1, num_layers=3)
    return path


@pytest.mark.parametrize("name", ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0", "F16"])
def test_every_matrix_gets_the_type_of_the_mix_and_stays_close(source: Path, tmp_path: Path, name: str) -> None:
    target, seen = tmp_path / "out.gguf", []
    quantize(source, target, name.lower(), seen.append)
    with open_checkpoint(source) as old, open_checkpoint(target) as new:
        spec, mix = read_spec(new), find_mix(name)
        assert spec == read_spec(old)
        assert new.metadata["general.file_type"] == mix.file_type
        assert new.metadata["tokenizer.ggml.tokens"] == old.metadata["tokenizer.ggml.tokens"]
        assert list(new.tensors) == list(old.tensors)
        for tensor, slot in used_tensors(new, spec).items():
            kind = new.tensors[tensor].block_type
            assert kind is block_type(mix, spec, slot)
            before, after = read(old, tensor), decode(new.raw(tensor), kind).reshape(new.tensors[tensor].shape)
            error = np.sqrt(np.mean((after - before) ** 2) / np.mean(before**2))
            assert error <= WORST[kind.name], (tensor, kind)


def test_what_cannot_be_quantized_leaves_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no quantization is called"):
        quantize(source, tmp_path / "out.gguf", "Q1_X")
    with pytest.raises(NotFound):
        quantize(tmp_path / "nothing.gguf", tmp_path / "out.gguf", "Q8_0")
    assert list(tmp_path.iterdir()) == []
