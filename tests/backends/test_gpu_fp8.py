"""Weights rounded to 8 bits when they are loaded: how far off products and whole models are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.backends.test_gpu_graphs import prompts

from camelid.backends.base import CacheType, Tensor
from camelid.backends.gpu.backend import GpuBackend
from camelid.backends.gpu.kernels.eight_bits import multiply_fp8, to_fp8
from camelid.backends.gpu.weights import Blocks, Fp8, place
from camelid.formats import BlockType, encode, open_checkpoint
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.models.synth import write_synthetic

CPU = torch.device("cpu")


def test_each_row_uses_the_whole_range_and_rows_of_zeros_stay_zeros() -> None:
    rows = torch.randn(5000, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, 5000)[:, None]
    rows[7] = 0
    codes, scales = to_fp8(rows.bfloat16())
    assert codes.float().abs().amax(1)[torch.arange(5000) != 7].unique().tolist() == [448.0]
    found = codes.float() * scales[:, None]
    assert found[7].abs().max() == 0
    relative = (found - rows.bfloat16().float()).abs() / rows.abs().amax(1, keepdim=True).clamp(min=1e-30)
    assert relative.max() < 2**-4  # of the largest; three bits of mantissa, rounded


def test_products_are_those_of_the_rounded_weight() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    codes, scales = to_fp8(torch.randn(40, 64, generator=torch.Generator().manual_seed(2)))
    expected = x.double() @ (codes.double() * scales.double()[:, None]).T
    torch.testing.assert_close(multiply_fp8(x, codes, scales).double(), expected, rtol=1e-5, atol=1e-5)


def test_what_the_tensor_cores_are_asked_gives_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch does it on the CPU, too, with inputs rounded to 8 bits as well."""
    from camelid.backends.gpu.kernels import eight_bits

    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    codes, scales = to_fp8(torch.randn(48, 64, generator=torch.Generator().manual_seed(2)))
    plain = multiply_fp8(x, codes, scales)
    monkeypatch.setattr(eight_bits, "_is_native", lambda x: True)
    found = multiply_fp8(x, codes, scales)
    assert found.shape == (3, 48)
    assert (found - plain).square().mean() < 0.05**2 * plain.square().mean()


def test_floats_are_rounded_and_blocks_stay() -> None:
    values = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    for block_type, kind in ((BlockType.BF16, Fp8), (BlockType.F32, Fp8), (BlockType.Q4_K, Blocks)):
        tensor = Tensor("w", values.shape, block_type, encode(values, block_type))
        assert isinstance(place(tensor, CPU, torch.float32, is_fp8=True), kind)


def test_a_models_logits_are_near_those_of_its_own_weights(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_synthetic(path, "tiny", "F16", seed=1, num_layers=2)

    def logits(*, is_fp8: bool) -> np.ndarray:
        backend = GpuBackend(CPU, torch.float32, is_fp8=is_fp8)
        model = load_model(open_checkpoint(path), backend)
        backend.open_pages(attention_spec(model.spec), CacheType.F16, 4)
        return np.array(backend.run(model, prompts([30, 5])))

    exact, found = logits(is_fp8=False), logits(is_fp8=True)
    error = np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))
    assert 0 < error < 0.15  # measured: 0.12, with random weights, in two layers
