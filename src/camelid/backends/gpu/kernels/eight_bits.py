"""Products of numbers rounded to float8_e4m3fn: weights with a scale for each row, inputs with one for each token.

The tensor cores of compute capability 8.9 and later multiply them as they are; elsewhere the weight is widened first,
which saves memory and no time. Source: Micikevicius et al. 2022 (FP8 formats); torch._scaled_mm.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LARGEST = 448.0  # of float8_e4m3fn
LEAST_CAPABILITY = (8, 9)
ROWS_OF_A_TILE = 16  # tokens are padded to a multiple of so many
SLAB_ROWS = 4096  # rounded at once, so that a large weight is not in memory twice as float32


def to_fp8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes (N, columns) and scales (N,) of rows in any float type."""
    codes = torch.empty(rows.shape, dtype=torch.float8_e4m3fn, device=rows.device)
    scales = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
    for start in range(0, len(rows), SLAB_ROWS):
        slab = rows[start : start + SLAB_ROWS].float()
        scale = slab.abs().amax(1) / LARGEST
        steps = torch.where(scale == 0, 1.0, scale)[:, None]
        codes[start : start + SLAB_ROWS] = (slab / steps).clamp(-LARGEST, LARGEST).to(codes.dtype)
        scales[start : start + SLAB_ROWS] = scale
    return codes, scales


def multiply_fp8(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Return x · Wᵀ, x (T, columns) rounded to 8 bits: (T, N) in the type of x."""
    if not _is_native(x):
        return (functional.linear(x, codes.to(x.dtype)) * scales).to(x.dtype)
    num_tokens = len(x)
    padded = functional.pad(x, (0, 0, 0, -num_tokens % ROWS_OF_A_TILE))
    rounded, steps = to_fp8(padded)
    found = torch._scaled_mm(rounded, codes.t(), scale_a=steps[:, None], scale_b=scales[None], out_dtype=torch.bfloat16)
    return found[:num_tokens].to(x.dtype)


def _is_native(x: Tensor) -> bool:
    """Say whether the device multiplies such numbers: of columns there must be a multiple of 16."""
    if x.device.type != "cuda" or x.shape[1] % 16:
        return False
    return torch.cuda.get_device_capability(x.device) >= LEAST_CAPABILITY
