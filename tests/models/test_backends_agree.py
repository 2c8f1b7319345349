"""Whole models on the backends that are meant for use, against the float64 reference and against Transformers.

What is compared is logits at every position of seeded prompts. With quantized weights the cpu backend rounds the input
of every product to 8 bits per block, and in a random network nothing corrects an error, so it grows layer by layer. How
much of a difference is this rounding is known exactly: the reference does the same rounding on request, and the cpu
backend may not err more than that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_checkpoints import CONFIGS, gguf_checkpoint, hugging_face_checkpoint, their_logits, transformers_model
from long_context import logits_at_chunks
from numpy.typing import NDArray
from tiny_models import all_logits, relative_rms

from camelid.backends.base import Backend, Batch, CacheType, Forward, Tensor
from camelid.backends.reference import ReferenceBackend
from camelid.backends.reference.ops import ReferenceOps
from camelid.formats import open_checkpoint
from camelid.formats.checkpoint import Checkpoint
from camelid.models.load import load_model
from camelid.models.synth import write_synthetic

native = pytest.importorskip("camelid.backends.cpu._native", reason="the cpu backend's extension is not built")

IDS = np.random.default_rng(1).integers(0, 97, 75).tolist()
PROMPT = np.random.default_rng(4).integers(0, 512, 70).tolist()


def cpu(isa: str | None = None) -> Backend:
    from camelid.backends.cpu.backend import CpuBackend

    return CpuBackend(threads=2, isa=isa)


class RoundingOps(ReferenceOps):
    """The reference with one fault of the cpu backend: each product's input is rounded to 8 bits per block of 256 or
    32.
    """

    def _multiply(self, x: NDArray[Any], weight: Tensor) -> NDArray[Any]:
        size = weight.block_type.weights_per_block
        if size > 1:
            blocks = x.reshape(len(x), -1, size)
            step = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / 127, 1e-30)
            x = (np.rint(blocks / step) * step).reshape(x.shape)
        return super()._multiply(x, weight)


class RoundingBackend(ReferenceBackend):
    """A reference backend over `RoundingOps`."""

    def run(self, model: Forward, batch: Batch) -> NDArray[Any]:
        logits: NDArray[Any] = model.forward(RoundingOps(self._dtype, self._attention, self._pages), batch)
        return logits


@pytest.mark.parametrize("name", CONFIGS)
def test_f32_weights_give_the_logits_of_the_reference_and_of_transformers(name: str) -> None:
    theirs = transformers_model(CONFIGS[name])
    checkpoint = hugging_face_checkpoint(theirs)

    logits, exact = (
        all_logits(load_model(checkpoint, backend), backend, IDS) for backend in (cpu(), ReferenceBackend())
    )

    assert relative_rms(logits, exact) < 3e-6
    assert relative_rms(logits, their_logits(theirs, IDS)) < 1e-5


def test_f16_cache_and_interleaved_pairs_change_little() -> None:
    theirs = transformers_model({})
    backend = cpu()

    logits = all_logits(load_model(gguf_checkpoint(theirs), backend), backend, IDS, cache_type=CacheType.F16)

    assert relative_rms(logits, their_logits(theirs, IDS)) < 2e-3


@pytest.mark.parametrize("quant", ["F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0"])
def test_quantized_weights_err_no_more_than_the_rounding_of_inputs(tmp_path: Path, quant: str) -> None:
    write_synthetic(tmp_path / "tiny.gguf", "tiny", quant)

    with open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:
        logits, rounded, exact = (
            all_logits(load_model(checkpoint, backend), backend, PROMPT)
            for backend in (cpu(), RoundingBackend(), ReferenceBackend())
        )

    found, allowed = relative_rms(logits, exact), relative_rms(rounded, exact)
    print(f"{quant}: relative error {found:.2e}, of which the rounding of inputs explains {allowed:.2e}")
    assert found < max(1.1 * allowed, 3e-6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, NDArray[np.float64]]:
    """A tiny Q4_K_M model, and its logits for PROMPT in one piece on the best instruction set."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_synthetic(path, "tiny", "Q4_K_M")
    checkpoint = open_checkpoint(path)
    return checkpoint, logits_in_chunks(checkpoint, cpu(), 1 << 30)


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("chunk", [1, 5, 32, 64])
def test_logits_have_the_same_bits_however_the_prompt_is_cut(
    whole: tuple[Checkpoint, NDArray[np.float64]], isa: str, chunk: int
) -> None:
    checkpoint, logits = whole

    np.testing.assert_array_equal(logits_in_chunks(checkpoint, cpu(isa), chunk), logits)


@pytest.mark.parametrize("chunk", [1, 13])
def test_a_past_in_8_bits_gives_the_same_bits_however_the_prompt_is_cut(
    whole: tuple[Checkpoint, NDArray[np.float64]], chunk: int
) -> None:
    checkpoint, logits = whole
    found = logits_in_chunks(checkpoint, cpu(), 1 << 30, CacheType.I8)

    np.testing.assert_array_equal(logits_in_chunks(checkpoint, cpu(), chunk, CacheType.I8), found)
    assert 0 < relative_rms(found, logits) < 0.1  # a random network; the rounding of its inputs alone is 3 %


def logits_in_chunks(
    checkpoint: Checkpoint, backend: Backend, chunk: int, cache_type: CacheType = CacheType.F16
) -> NDArray[np.float64]:
    return all_logits(load_model(checkpoint, backend), backend, PROMPT, chunk=chunk, cache_type=cache_type)


@pytest.mark.parametrize(("cache_type", "most"), [(CacheType.F32, 3e-6), (CacheType.F16, 2e-3), (CacheType.I8, 2e-2)])
def test_a_context_of_several_segments_equals_the_reference(cache_type: CacheType, most: float) -> None:
    found = logits_at_chunks(cpu(), 2100, cache_type, chunk=700)

    assert relative_rms(found, logits_at_chunks(ReferenceBackend(), 2100, CacheType.F32, chunk=700)) < most


def test_a_past_in_8_bits_is_rounded_as_the_reference_rounds_it() -> None:
    found, expected = (logits_at_chunks(backend, 300, CacheType.I8) for backend in (cpu(), ReferenceBackend()))

    assert relative_rms(found, expected) < 1e-3


def test_8192_positions_equal_transformers() -> None:
    theirs = transformers_model(
        {
            "max_position_embeddings": 8192,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_theta": 500000.0,
        }
    )
    theirs.config._attn_implementation = "sdpa"
    ids = np.random.default_rng(2).integers(0, 97, 8192).tolist()
    backend = cpu()

    logits = all_logits(load_model(hugging_face_checkpoint(theirs), backend), backend, ids, chunk=512)

    assert relative_rms(logits[-512:], their_logits(theirs, ids)[-512:]) < 2e-5
