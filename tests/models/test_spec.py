"""Specs read from metadata: right numbers from real configurations, and one clear error for every number that cannot
be.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import MemoryCheckpoint, gguf_arrays, gguf_metadata

from camelid.backends.base import RopePairs
from camelid.errors import ModelError, UnsupportedModel
from camelid.models.load import read_spec
from camelid.models.rope import inverse_frequencies
from camelid.models.spec import DivisorScaling, LinearScaling, Llama3Scaling, ModelSpec, RopeSpec, Weight, YarnScaling

LLAMA_32_1B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}

GGUF_ARRAYS = gguf_arrays()


def hugging_face_spec(**changes: Any) -> ModelSpec:
    config = {key: value for key, value in {**LLAMA_32_1B, **changes}.items() if value is not ...}
    return read_spec(MemoryCheckpoint(config, {"lm_head.weight": np.zeros((1, 1), np.float32)}))


def gguf_spec(**changes: Any) -> ModelSpec:
    return read_spec(MemoryCheckpoint(gguf_metadata(**changes), gguf_arrays()))


def test_config_of_llama_32_1b_gives_its_published_numbers() -> None:
    assert hugging_face_spec() == ModelSpec(
        architecture="llama",
        dim=2048,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        head_dim=64,
        ffn_dim=8192,
        vocab_size=128256,
        context_length=131072,
        norm_epsilon=1e-5,
        softmax_scale=0.125,
        rope=RopeSpec(500000.0, 64, RopePairs.HALVES, Llama3Scaling(32.0, 1.0, 4.0, 8192)),
        is_tied=True,
        biased=frozenset(),
    )


def test_what_an_old_config_leaves_out_has_the_defaults_of_transformers() -> None:
    spec = hugging_face_spec(
        num_key_value_heads=...,
        head_dim=...,
        rms_norm_eps=...,
        rope_theta=...,
        rope_scaling=None,
        tie_word_embeddings=...,
        attention_bias=...,
        mlp_bias=...,
        max_position_embeddings=...,
    )

    assert (spec.num_kv_heads, spec.head_dim, spec.norm_epsilon, spec.context_length) == (32, 64, 1e-6, 2048)
    assert (spec.rope, spec.is_tied, spec.biased) == (RopeSpec(10000.0, 64, RopePairs.HALVES), False, frozenset())


def test_a_folder_that_says_nothing_of_tying_is_tied_when_it_has_no_head() -> None:
    config = {key: value for key, value in LLAMA_32_1B.items() if key != "tie_word_embeddings"}

    assert read_spec(MemoryCheckpoint(config, {})).is_tied


def test_biases_are_those_that_the_config_announces() -> None:
    spec = hugging_face_spec(attention_bias=True, mlp_bias=True)

    assert spec.biased == {
        Weight.QUERY,
        Weight.KEY,
        Weight.VALUE,
        Weight.ATTENTION_OUT,
        Weight.GATE,
        Weight.UP,
        Weight.DOWN,
    }


def test_context_ends_with_the_window_of_a_sliding_model() -> None:
    assert hugging_face_spec(model_type="mistral", sliding_window=4096).context_length == 4096
    assert hugging_face_spec(model_type="mistral", sliding_window=None).context_length == 131072
    assert hugging_face_spec(model_type="mistral").context_length == 4096  # as Transformers takes it
    assert hugging_face_spec(model_type="llama", sliding_window=4096).context_length == 131072
    assert gguf_spec(attention__sliding_window=64).context_length == 64


def test_gguf_metadata_give_their_numbers() -> None:
    assert gguf_spec() == ModelSpec(
        architecture="llama",
        dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        ffn_dim=48,
        vocab_size=40,
        context_length=256,
        norm_epsilon=1e-5,
        softmax_scale=1 / math.sqrt(8),
        rope=RopeSpec(10000.0, 8, RopePairs.INTERLEAVED),
        is_tied=False,
        biased=frozenset(),
    )


def test_gguf_tensors_tell_of_tying_biases_and_rope_divisors() -> None:
    arrays = gguf_arrays()
    del arrays["output.weight"]
    arrays["blk.0.attn_q.bias"] = np.zeros(32, np.float32)
    arrays["rope_freqs.weight"] = np.array([1, 1, 2, 8], np.float32)

    spec = read_spec(MemoryCheckpoint(gguf_metadata(), arrays))

    assert spec.is_tied
    assert spec.biased == {Weight.QUERY}
    assert spec.rope.scaling == DivisorScaling((1.0, 1.0, 2.0, 8.0))


def test_gguf_scaling_keys_are_read_as_llama_cpp_reads_them() -> None:
    yarn = gguf_spec(
        rope__scaling__type="yarn", rope__scaling__factor=4.0, rope__scaling__original_context_length=64
    ).rope.scaling

    assert yarn == YarnScaling(4.0, 64, amplitude=0.1 * np.log(4.0) + 1)
    assert gguf_spec(rope__scaling__factor=2.0).rope.scaling == LinearScaling(2.0)
    assert gguf_spec(rope__scale_linear=8.0).rope.scaling == LinearScaling(8.0)
    assert gguf_spec(rope__scaling__type="none", rope__scaling__factor=2.0).rope.scaling is None


def test_one_number_for_all_layers_may_come_as_a_list() -> None:
    assert gguf_spec(attention__head_count_kv=[2, 2]).num_kv_heads == 2
    with pytest.raises(UnsupportedModel, match="differs from layer to layer"):
        gguf_spec(attention__head_count_kv=[2, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_count": None}, "the model's metadata lack llama.block_count"),
        ({"block_count": 0}, "llama.block_count is 0, but it must be a whole number from 1 to 4096"),
        ({"block_count": -1}, "llama.block_count is -1, but it must be a whole number from 1 to 4096"),
        ({"block_count": 2**40}, "llama.block_count is 1099511627776, but it must be a whole number from 1 to 4096"),
        ({"block_count": True}, "llama.block_count is True, but it must be a whole number from 1 to 4096"),
        ({"block_count": "2"}, "llama.block_count is '2', but it must be a whole number from 1 to 4096"),
        (
            {"attention__head_count": 5},
            "llama.embedding_length is 32, but it must be a multiple of attention.head_count, 5",
        ),
        (
            {"attention__head_count_kv": 3},
            "the number of heads is 4, but it must be a multiple of the number of key/value heads, 3",
        ),
        ({"rope__dimension_count": 16}, "the number of rotated dimensions is 16, but it must be even and at most 8"),
        ({"rope__dimension_count": 5}, "the number of rotated dimensions is 5, but it must be even and at most 8"),
        ({"rope__freq_base": float("nan")}, "llama.rope.freq_base is nan, but it must be a number from 2 to 1e\\+15"),
        ({"attention__layer_norm_rms_epsilon": 0.0}, "rms_epsilon is 0.0, but it must be a number from 1e-12 to 0.1"),
        ({"vocab_size": 41}, "llama.vocab_size is 41, but the embedding token_embd.weight has 40 rows"),
    ],
)
def test_a_wrong_number_is_refused_with_key_value_and_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"tiny: .*{message}") as caught:
        gguf_spec(**changes)

    assert caught.value.hint is not None


def test_a_vocabulary_of_another_size_than_the_embedding_is_refused() -> None:
    metadata = gguf_metadata()
    metadata["tokenizer.ggml.tokens"] = ["a"] * 39
    with pytest.raises(
        ModelError, match=r"the vocabulary has 39 tokens, but the embedding token_embd.weight has 40 rows"
    ):
        read_spec(MemoryCheckpoint(metadata, gguf_arrays()))

    embedding = {"model.embed_tokens.weight": np.zeros((128, 2048), np.float32)}
    with pytest.raises(ModelError, match=r"vocab_size is 128256, but the embedding .* has 128 rows"):
        read_spec(MemoryCheckpoint(LLAMA_32_1B, embedding))


@pytest.mark.parametrize("values", [[1, 1, 0, 8], [1, 1, np.nan, 8], [1, -1, 2, 8], [1, 1, 1], [1] * 5])
def test_impossible_rope_divisors_are_refused(values: list[float]) -> None:
    arrays = gguf_arrays() | {"rope_freqs.weight": np.array(values, np.float32)}
    with pytest.raises(ModelError, match="rope"):
        read_spec(MemoryCheckpoint(gguf_metadata(), arrays))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_count": 8}, "mixture-of-experts"),
        ({"attention__causal": False}, "not causal"),
        ({"logit_scale": 0.5}, "llama.logit_scale"),
        ({"attention__key_length": 8, "attention__value_length": 16}, "different lengths"),
        ({"rope__scaling__type": "longrope"}, "rope scaling of type 'longrope'"),
    ],
)
def test_gguf_features_that_are_not_implemented_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        gguf_spec(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "the architecture 'gpt2'"),
        ({"hidden_act": "gelu"}, "the activation 'gelu'"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized with 'awq'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope scaling of type 'dynamic'"),
        ({"partial_rotary_factor": 0.5}, "rotate in part"),
    ],
)
def test_config_features_that_are_not_implemented_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        hugging_face_spec(**changes)


def test_an_unknown_architecture_is_told_which_are_known() -> None:
    metadata = gguf_metadata() | {"general.architecture": "mamba"}
    with pytest.raises(UnsupportedModel, match="tiny: the architecture 'mamba' is not implemented") as caught:
        read_spec(MemoryCheckpoint(metadata, {}))

    assert caught.value.hint is not None
    assert "llama" in caught.value.hint


@pytest.mark.parametrize("section", [[1, 2], "linear", {"rope_type": "llama3", "factor": 8.0}, {"rope_type": 3}])
def test_a_malformed_rope_section_is_refused(section: object) -> None:
    with pytest.raises(ModelError, match="rope_scaling"):
        hugging_face_spec(rope_scaling=section)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 600),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=3),
)


@given(key=st.sampled_from(sorted(gguf_metadata(rope__scaling__type="yarn", rope__scaling__factor=2.0))), value=JUNK)
def test_any_value_of_a_gguf_key_gives_a_usable_spec_or_a_model_error(key: str, value: object) -> None:
    metadata = gguf_metadata(rope__scaling__type="yarn", rope__scaling__factor=2.0) | {key: value}
    assert_usable_or_refused(MemoryCheckpoint(metadata, GGUF_ARRAYS))


@given(key=st.sampled_from(sorted(LLAMA_32_1B)), value=JUNK)
def test_any_value_of_a_config_key_gives_a_usable_spec_or_a_model_error(key: str, value: object) -> None:
    assert_usable_or_refused(MemoryCheckpoint({**LLAMA_32_1B, key: value}, {}))


@given(
    kind=st.sampled_from(["llama3", "yarn", "linear"]),
    key=st.sampled_from(
        ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "rope_theta", "beta_fast"]
    ),
    value=JUNK,
)
def test_any_value_of_a_rope_key_gives_a_usable_spec_or_a_model_error(kind: str, key: str, value: object) -> None:
    scaling = {**LLAMA_32_1B["rope_scaling"], "rope_type": kind, key: value}  # type: ignore[dict-item]
    assert_usable_or_refused(MemoryCheckpoint({**LLAMA_32_1B, "rope_scaling": scaling}, {}))


def assert_usable_or_refused(checkpoint: MemoryCheckpoint) -> None:
    try:
        spec = read_spec(checkpoint)
    except ModelError:
        return
    frequencies = inverse_frequencies(spec.rope)
    assert len(frequencies) == spec.rope.rotary_dim // 2
    assert np.isfinite(frequencies).all()
    assert (frequencies > 0).all()
    assert spec.num_heads % spec.num_kv_heads == 0
