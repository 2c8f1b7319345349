"""A whole model on the gpu backend, computed on the CPU in float32, against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.engine.drive import run_to_end

from camelid.backends.base import Backend, CacheType
from camelid.backends.gpu.backend import GpuBackend
from camelid.backends.reference import ReferenceBackend
from camelid.engine.engine import Engine
from camelid.engine.request import GenerateRequest
from camelid.engine.settings import EngineSettings
from camelid.formats import open_checkpoint
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.models.synth import write_synthetic
from camelid.types import Sampling

REQUESTS = [
    GenerateRequest(f"r{length}", tuple(range(3, 3 + length)), Sampling(temperature=0), 12, top_logprobs=2)
    for length in (1, 33, 70)
]


def answers(path: Path, backend: Backend) -> dict[tuple[str, int], list[tuple[int, float]]]:
    with open_checkpoint(path) as checkpoint:
        model = load_model(checkpoint, backend)
        backend.open_pages(attention_spec(model.spec), CacheType.F32, 40)
        settings = EngineSettings(model.spec.vocab_size, context_length=128, num_pages=40, max_batch_tokens=50)
        found = run_to_end(Engine(model, backend, settings), REQUESTS)
    return {key: [(token.id, token.logprob or 0.0) for token in tokens] for key, tokens in found.items()}


@pytest.mark.parametrize("quantization", ["F16", "Q8_0", "Q4_K_M", "Q4_0"])
def test_answers_equal_those_of_the_reference(tmp_path: Path, quantization: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_synthetic(path, "tiny", quantization, seed=5, num_layers=2)
    found = answers(path, GpuBackend(torch.device("cpu"), torch.float32))
    expected = answers(path, ReferenceBackend(np.float64))
    for key, tokens in expected.items():
        assert [token for token, _ in found[key]] == [token for token, _ in tokens]
        np.testing.assert_allclose([p for _, p in found[key]], [p for _, p in tokens], atol=2e-4)
