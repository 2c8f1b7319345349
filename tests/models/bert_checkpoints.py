"""Tiny random BERTs of Transformers, as llama.cpp's converter writes them to GGUF."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_models import MemoryCheckpoint

BASE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "embeddings.layernorm": "token_embd_norm",
    "encoder.layer.": "blk.",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "pooler.dense": "cls",
    "classifier": "cls.output",
}


def bert(*, num_labels: int = 0, **changes: Any) -> Any:
    """Return a seeded BERT of Transformers, or a cross-encoder, whose norms and biases are not their usual 1 and 0."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(0)
    config = BertConfig(**{**BASE, **changes}, num_labels=num_labels or 2, attn_implementation="eager")
    kind = BertForSequenceClassification if num_labels else BertModel
    return _stirred(kind(config).eval())


def xlm_roberta(**changes: Any) -> Any:
    """Return a seeded XLM-RoBERTa that ranks; its table of positions begins with two rows that are never used."""
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(0)
    sizes = {
        **BASE,
        "max_position_embeddings": 130,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "num_labels": 1,
        **changes,
    }
    config = XLMRobertaConfig(**sizes, attn_implementation="eager")
    return _stirred(XLMRobertaForSequenceClassification(config).eval())


def xlm_roberta_checkpoint(model: Any, **metadata: Any) -> MemoryCheckpoint:
    """Return the checkpoint of `xlm_roberta()`."""
    arrays = {}
    for name, value in model.state_dict().items():
        name = name.removeprefix("roberta.").replace("classifier.dense", "pooler.dense").replace(".out_proj", "")
        values = value.detach().float().numpy()
        if not name.endswith("position_ids"):
            arrays[_renamed(name)] = values[2:] if "position_embeddings" in name else values
    known = {"context_length": 128, "pooling_type": 4, **metadata}
    return MemoryCheckpoint({**_metadata("bert", model.config), **_prefixed("bert", known)}, arrays)


def nomic(**changes: Any) -> Any:
    """Return a seeded Nomic BERT of Transformers."""
    from transformers import NomicBertConfig, NomicBertModel

    torch.manual_seed(0)
    config = NomicBertConfig(**{**BASE, **changes}, attn_implementation="eager")
    return _stirred(NomicBertModel(config, add_pooling_layer=False).eval())


def _stirred(model: Any) -> Any:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.randn_like(parameter) * 0.3 + (0.0 if name.endswith("bias") else 1.0))
            else:
                parameter.mul_(7.0)  # from the usual 0.02 to something that makes a difference
    return model


def bert_checkpoint(model: Any, **metadata: Any) -> MemoryCheckpoint:
    """Return the checkpoint of `bert()`. Other metadata than the usual may be given, as `pooling_type`."""
    config = model.config
    arrays = {}
    for name, value in model.state_dict().items():
        name = name.removeprefix("bert.")
        if name.endswith("position_ids") or (name.startswith("pooler") and not hasattr(model, "classifier")):
            continue
        arrays[_renamed(name)] = value.detach().float().numpy()
    return MemoryCheckpoint({**_metadata("bert", config), **_prefixed("bert", metadata)}, arrays)


def nomic_checkpoint(model: Any, **metadata: Any) -> MemoryCheckpoint:
    """Return the checkpoint of `nomic()`: queries, keys and values lie in one matrix."""
    config, state = model.config, {name: value.detach().float().numpy() for name, value in model.state_dict().items()}
    arrays: dict[str, NDArray[np.float32]] = {
        "token_embd.weight": state["embeddings.word_embeddings.weight"],
        "token_types.weight": state["embeddings.token_type_embeddings.weight"],
        "token_embd_norm.weight": _one(state, "embeddings", "Norm.weight"),
        "token_embd_norm.bias": _one(state, "embeddings", "Norm.bias"),
    }
    for index in range(config.num_hidden_layers):
        layer = {name.split(f".{index}.", 1)[1]: value for name, value in state.items() if f"layers.{index}." in name}
        kinds = ("q_proj", "k_proj", "v_proj")
        arrays[f"blk.{index}.attn_qkv.weight"] = np.concatenate([_one(layer, kind, "weight") for kind in kinds])
        arrays[f"blk.{index}.attn_output.weight"] = _one(layer, "o_proj", "weight")
        for theirs, ours in (("gate_proj", "ffn_gate"), ("up_proj", "ffn_up"), ("down_proj", "ffn_down")):
            arrays[f"blk.{index}.{ours}.weight"] = _one(layer, theirs, "weight")
        for theirs, ours in (
            ("post_attention_layernorm", "attn_output_norm"),
            ("post_mlp_layernorm", "layer_output_norm"),
        ):
            for part in ("weight", "bias"):
                arrays[f"blk.{index}.{ours}.{part}"] = layer[f"{theirs}.{part}"]
    theta = {"rope.freq_base": 1000.0}
    return MemoryCheckpoint(
        {**_metadata("nomic-bert", config), **_prefixed("nomic-bert", {**theta, **metadata})}, arrays
    )


def _one(values: dict[str, Any], *parts: str) -> NDArray[np.float32]:
    (found,) = (value for name, value in values.items() if all(part in name for part in parts))
    array: NDArray[np.float32] = found
    return array


def _renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _metadata(architecture: str, config: Any) -> dict[str, Any]:
    values = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.layer_norm_epsilon": config.layer_norm_eps,
        "attention.causal": False,
    }
    return {"general.architecture": architecture, **_prefixed(architecture, values)}


def _prefixed(architecture: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{architecture}.{key}": value for key, value in values.items()}
