"""Adapters as files: both forms say the same, and what is no plain LoRA adapter is refused with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.lora import LORA, Pairs, random_pairs, spec_of, write_gguf_lora, write_peft_lora
from tests.models.tiny_models import gguf_arrays, gguf_metadata

from camelid.errors import ModelError, NotFound, UnsupportedModel
from camelid.formats import BlockType, open_checkpoint, read, tensor_from_values, write_gguf, write_safetensors
from camelid.models.adapters import open_adapted
from camelid.models.lora import lora_files, open_lora
from camelid.models.lora_gguf import write_gguf_adapter
from camelid.models.names import Naming
from camelid.models.row_order import row_order
from camelid.models.spec import Weight

QUERY = (Weight.QUERY, 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.gguf"
    tensors = [tensor_from_values(name, values, BlockType.F32) for name, values in gguf_arrays().items()]
    write_gguf(path, gguf_metadata(), tensors)
    return path


@pytest.fixture(scope="module")
def pairs(base: Path) -> Pairs:
    return random_pairs(spec_of(base))


def in_peft_order(pairs: Pairs, base: Path) -> Pairs:
    """Return pairs with the rows of query and key as Hugging Face's layout has them."""
    spec, found = spec_of(base), dict(pairs)
    for (weight, layer), (down, up) in pairs.items():
        order = row_order(spec, weight, Naming.GGUF, Naming.HUGGING_FACE)
        if order is not None:
            found[weight, layer] = (down, up.reshape(-1, len(order), up.shape[1])[:, order].reshape(up.shape))
    return found


def test_both_forms_change_a_model_in_the_same_way(base: Path, pairs: Pairs, tmp_path: Path) -> None:
    ours = write_gguf_lora(tmp_path / "lora.gguf", pairs)
    theirs = write_peft_lora(tmp_path / "peft", in_peft_order(pairs, base))
    for other in (theirs, theirs / "adapter_model.safetensors"):
        with open_adapted(base, [ours]) as one, open_adapted(base, [other]) as two, open_adapted(base) as plain:
            for name in one.tensors:
                np.testing.assert_array_equal(read(one, name), read(two, name))
            assert not np.array_equal(read(one, "blk.0.attn_q.weight"), read(plain, "blk.0.attn_q.weight"))


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 6}, 1.5),
        ({"lora_alpha": 6, "use_rslora": True}, 3.0),
        ({"alpha_pattern": {"q_proj": 20}}, 5.0),
        ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 20}}, 5.0),
        ({"alpha_pattern": {"^self_attn.q_proj": 20}}, 2.0),
        ({"alpha_pattern": {"1.self_attn.q_proj": 20}}, 2.0),
    ],
)
def test_the_scale_is_the_one_that_peft_trained_with(
    base: Path, pairs: Pairs, tmp_path: Path, config: dict[str, Any], scale: float
) -> None:
    with open_lora(write_peft_lora(tmp_path / "peft", pairs, **config)) as adapter:
        assert adapter.pairs[QUERY].scale == scale


@pytest.mark.parametrize("config", [{}, {"alpha_pattern": {"q_proj": 20}}, {"use_rslora": True}])
def test_a_peft_adapter_written_as_gguf_is_the_same_adapter(
    base: Path, pairs: Pairs, tmp_path: Path, config: dict[str, Any]
) -> None:
    spec = spec_of(base)
    with open_lora(write_peft_lora(tmp_path / "peft", pairs, **config)) as adapter:
        write_gguf_adapter(adapter, spec, tmp_path / "made.gguf")
        with open_lora(tmp_path / "made.gguf") as made:
            assert made.pairs.keys() == adapter.pairs.keys()
            for slot in adapter.pairs:
                one, two = (each.change(*slot, spec, Naming.GGUF) for each in (adapter, made))
                np.testing.assert_array_equal(one.down, two.down)
                np.testing.assert_allclose(one.scale * one.up, two.scale * two.up, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({"peft_type": "IA3"}, UnsupportedModel, "is an adapter of the type 'IA3'"),
        ({"use_dora": True}, UnsupportedModel, "use_dora is True"),
        ({"bias": "all"}, UnsupportedModel, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedModel, "modules_to_save is"),
        ({"alpha_pattern": {"(q|k)_proj": 2}}, UnsupportedModel, "alpha_pattern"),
        ({"alpha_pattern": [3]}, ModelError, "must map modules to numbers"),
        ({"lora_alpha": "many"}, ModelError, "lora_alpha must be a number, got 'many'"),
    ],
)
def test_a_configuration_that_is_more_than_lora_is_refused(
    pairs: Pairs, tmp_path: Path, config: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says.replace("(", r"\(")):
        open_lora(write_peft_lora(tmp_path / "peft", pairs, **config))


def test_the_copy_of_the_head_that_peft_adds_is_passed_over(base: Path, tmp_path: Path) -> None:
    head = random_pairs(replace(spec_of(base), num_layers=1), weights=(Weight.HEAD,))
    folder = write_peft_lora(tmp_path / "peft", head)
    with open_checkpoint(folder / "adapter_model.safetensors") as written:
        tensors = {name: read(written, name) for name in written.tensors}
    tensors["base_model.model.lm_head.base_layer.weight"] = gguf_arrays()["output.weight"]
    write_safetensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})
    with open_lora(folder) as adapter:
        assert list(adapter.pairs) == [(Weight.HEAD, 0)]


def test_an_adapter_of_the_embedding_or_of_unknown_modules_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    down, up = pairs[QUERY]
    tensors = [tensor_from_values(f"token_embd.weight.lora_{x}", y, BlockType.F32) for x, y in (("a", down), ("b", up))]
    write_gguf(tmp_path / "lora.gguf", LORA, tensors)
    with pytest.raises(UnsupportedModel, match=r"changes 'token_embd.weight', which is not supported") as caught:
        open_lora(tmp_path / "lora.gguf")
    assert caught.value.hint == (
        "supported are attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down, output"
    )


def test_an_adapter_of_another_model_is_refused_and_says_whose_it_is(base: Path, pairs: Pairs, tmp_path: Path) -> None:
    wider = {**pairs, QUERY: (np.zeros((4, 64), np.float32), pairs[QUERY][1])}
    deeper = {**pairs, (Weight.QUERY, 9): pairs[QUERY]}
    named = {"base_model_name_or_path": "meta-llama/Llama-3.2-1B"}
    with (
        open_lora(write_peft_lora(tmp_path / "wider", wider, **named)) as one,
        pytest.raises(ModelError, match=r"does not fit blk\.0\.attn_q\.weight of base") as caught,
    ):
        one.check(spec_of(base), "base")
    assert caught.value.hint == "the adapter says that it is for meta-llama/Llama-3.2-1B"
    with (
        open_lora(write_peft_lora(tmp_path / "deeper", deeper)) as one,
        pytest.raises(ModelError, match="base has only 2 layers"),
    ):
        one.check(spec_of(base), "base")


def test_what_is_missing_is_named(pairs: Pairs, tmp_path: Path) -> None:
    folder = write_peft_lora(tmp_path / "peft", pairs)
    assert [file.name for file in lora_files(folder)] == ["adapter_config.json", "adapter_model.safetensors"]
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFound, match=r"holds no adapter_model\.safetensors"):
        open_lora(folder)
    (folder / "adapter_config.json").write_text(json.dumps([1]))
    write_gguf(tmp_path / "none.gguf", LORA, [])
    with pytest.raises(ModelError, match="changes nothing"):
        open_lora(tmp_path / "none.gguf")
