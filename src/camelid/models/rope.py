"""The rotation's frequencies: from a RopeSpec to the numbers that attention works with, in float64.

Positions are not rotated here; that is the backends' `attend`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import AttentionSpec

from .spec import DivisorScaling, LinearScaling, Llama3Scaling, ModelSpec, RopeSpec, YarnScaling

Frequencies = NDArray[np.float64]  # (rotary_dim / 2,) radians per position


def attention_spec(spec: ModelSpec) -> AttentionSpec:
    """Return what a backend needs to attend for this model."""
    return AttentionSpec(
        num_layers=spec.num_layers,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        inverse_frequencies=inverse_frequencies(spec.rope),
        rope_pairs=spec.rope.pairs,
        softmax_scale=spec.softmax_scale,
        rope_amplitude=amplitude(spec.rope),
    )


def inverse_frequencies(rope: RopeSpec) -> Frequencies:
    """Return how far each pair of dimensions turns per position, scaling included: (rotary_dim / 2,).

    Source: Su et al. 2021 (RoFormer) for the plain ones.
    """
    plain: Frequencies = rope.theta ** (-np.arange(0, rope.rotary_dim, 2, dtype=np.float64) / rope.rotary_dim)
    match rope.scaling:
        case None:
            return plain
        case LinearScaling(factor):
            return plain / factor
        case DivisorScaling(divisors):
            return plain / np.array(divisors, np.float64)
        case Llama3Scaling() as scaling:
            return plain / llama3_divisors(plain, scaling)
        case YarnScaling() as scaling:
            return _yarn(plain, rope, scaling)


def amplitude(rope: RopeSpec) -> float:
    """Return what cos and sin are multiplied by: YaRN's attention factor, else 1."""
    return rope.scaling.amplitude if isinstance(rope.scaling, YarnScaling) else 1.0


def llama3_divisors(plain: Frequencies, scaling: Llama3Scaling) -> Frequencies:
    """Return what Llama 3.1 divides each plain frequency by; GGUF stores these as `rope_freqs`.

    With n = turns within the original context, the scaled frequency is a blend, linear in n between the two factors, of
    the plain frequency (n at high_factor and above) and the plain one over `factor` (n at low_factor and below).
    """
    turns = scaling.original_context * plain / (2.0 * math.pi)
    share = np.clip((turns - scaling.low_factor) / (scaling.high_factor - scaling.low_factor), 0.0, 1.0)
    blended: Frequencies = 1.0 / (share + (1.0 - share) / scaling.factor)
    return blended


def _yarn(plain: Frequencies, rope: RopeSpec, scaling: YarnScaling) -> Frequencies:
    low = _dimension_that_turns(scaling.beta_fast, rope, scaling)
    high = _dimension_that_turns(scaling.beta_slow, rope, scaling)
    if scaling.is_truncated:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0.0), min(high, rope.rotary_dim - 1.0)
    width = high - low or 0.001  # both ends in one place: a step
    slow_share = np.clip((np.arange(rope.rotary_dim // 2) - low) / width, 0.0, 1.0)
    scaled: Frequencies = plain * (1.0 - slow_share) + plain / scaling.factor * slow_share
    return scaled


def _dimension_that_turns(num_turns: float, rope: RopeSpec, scaling: YarnScaling) -> float:
    """Return the (fractional) pair that turns `num_turns` times within the original context."""
    wavelength = scaling.original_context / (num_turns * 2.0 * math.pi)
    return rope.rotary_dim * math.log(wavelength) / (2.0 * math.log(rope.theta))
