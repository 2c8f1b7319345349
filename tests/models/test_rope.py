"""Frequencies equal those of Transformers, for every kind of scaling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tiny_models import MemoryCheckpoint

from camelid.backends.base import RopePairs
from camelid.models.rope import amplitude, inverse_frequencies, llama3_divisors
from camelid.models.spec import DivisorScaling, Llama3Scaling, RopeSpec
from camelid.models.spec_hf import read_hugging_face

CONFIG = {
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
SCALINGS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "default": {"rope_type": "default"},
    "linear": {"type": "linear", "factor": 4.0},
    "llama 3.1": {"rope_type": "llama3", "factor": 8.0, **LLAMA3},
    "llama 3.2": {"rope_type": "llama3", "factor": 32.0, **LLAMA3},
    "yarn": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 8192},
    "yarn, all numbers given": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 64.0,
        "beta_slow": 2.0,
        "attention_factor": 1.25,
        "truncate": False,
    },
    "yarn with weighted amplitude": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "mscale": 1.0,
        "mscale_all_dim": 0.707,
    },
    "yarn without an original context": {"rope_type": "yarn", "factor": 2.0},
}


@pytest.mark.parametrize("style", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("head_dim", [None, 128])
def test_frequencies_equal_those_of_transformers(name: str, style: str, head_dim: int | None) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    scaling = SCALINGS[name]
    config = {**CONFIG, "head_dim": head_dim}
    if style == "rope_scaling":
        config["rope_scaling"] = scaling
    else:
        del config["rope_theta"]
        config["rope_parameters"] = {**(scaling or {"rope_type": "default"}), "rope_theta": 500000.0}
    rope = read_hugging_face(MemoryCheckpoint(config, {})).rope
    theirs = LlamaRotaryEmbedding(
        LlamaConfig(
            **{
                **CONFIG,
                "rope_theta": 500000.0,
                "head_dim": head_dim,
                "rope_scaling": dict(scaling or {"rope_type": "default"}),
            }
        )
    )

    np.testing.assert_allclose(inverse_frequencies(rope), theirs.inv_freq.double().numpy(), rtol=5e-7)
    assert math.isclose(amplitude(rope), theirs.attention_scaling, rel_tol=1e-12)
    assert rope.pairs is RopePairs.HALVES


def test_llama3_divisors_give_what_the_formula_gives() -> None:
    formula = RopeSpec(500000.0, 64, RopePairs.INTERLEAVED, Llama3Scaling(32.0, 1.0, 4.0, 8192))
    plain = inverse_frequencies(RopeSpec(500000.0, 64, RopePairs.INTERLEAVED))
    divisors = llama3_divisors(plain, Llama3Scaling(32.0, 1.0, 4.0, 8192))

    as_tensor = RopeSpec(
        500000.0, 64, RopePairs.INTERLEAVED, DivisorScaling(tuple(divisors.astype(np.float32).tolist()))
    )

    np.testing.assert_allclose(inverse_frequencies(as_tensor), inverse_frequencies(formula), rtol=1e-7)
    assert divisors[0] == 1.0
    assert divisors[-1] == 32.0
    assert np.all(np.diff(divisors) >= 0)
