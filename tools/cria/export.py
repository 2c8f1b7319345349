"""Export a checkpoint: `python -m tools.cria.export --folder DIR --gguf FILE [--hugging-face DIR]`.

The GGUF holds what llama.cpp's converter would write for a Llama 3 model; the folder is what `transformers` saves.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from camelid.formats import gguf_writer as gguf
from camelid.formats.blocks import BlockType
from camelid.formats.gguf_writer import tensor_from_values

from .chat import TEMPLATE
from .model import Shape
from .tokenizer import SPECIAL, with_begin

LICENSE = "apache-2.0"
FILE_TYPES = {BlockType.F16: 1, BlockType.Q8_0: 7}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Trained:
    """A trained model: its shape, its float32 weights by their PyTorch names, and its tokenizer."""

    shape: Shape
    weights: dict[str, torch.Tensor]
    tokenizer: Tokenizer
    name: str = "cria"
    size: str = "3M"
    languages: tuple[str, ...] = ("en", "de", "fr", "it", "pt", "hi", "es", "th")


def read(folder: Path, averaged: bool) -> Trained:
    """Read the training folder's checkpoint, its last weights or their running average."""
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Trained(Shape(vocabulary=tokenizer.get_vocab_size()), state["average" if averaged else "model"], tokenizer)


def interleaved(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Reorder rows so that rotary pairs lie side by side, as GGUF's `llama` architecture wants them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def gguf_tensors(trained: Trained) -> dict[str, NDArray[Any]]:
    """Return the tensors in float32 under their GGUF names."""
    shape, found = trained.shape, {}
    for name, tensor in trained.weights.items():
        array = tensor.float().numpy()
        if name.endswith("q_proj.weight"):
            array = interleaved(array, shape.heads)
        elif name.endswith("k_proj.weight"):
            array = interleaved(array, shape.key_heads)
        found[_gguf_name(name)] = array
    return found


def _gguf_name(name: str) -> str:
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, index, rest = name.split(".", 2)
    return f"blk.{index}.{_NAMES[rest.removesuffix('.weight')]}.weight"


def write_gguf(trained: Trained, path: Path, block_type: BlockType = BlockType.F16) -> None:
    """Write a GGUF with its matrices in `block_type` (F16 or Q8_0), whole or not at all."""
    metadata = _general(trained, block_type) | _shape(trained.shape) | _tokenizer(trained.tokenizer)
    tensors = [
        tensor_from_values(name, array, BlockType.F32 if array.ndim == 1 else block_type)
        for name, array in sorted(gguf_tensors(trained).items(), key=_order)
    ]
    gguf.write_gguf(path, metadata, tensors)


def _order(item: tuple[str, NDArray[Any]]) -> tuple[int, int, str]:
    name = item[0]
    if name.startswith("blk."):
        return 1, int(name.split(".")[1]), name
    return (0 if name.startswith("token") else 2), 0, name


def _general(trained: Trained, block_type: BlockType) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": trained.name,
        "general.size_label": trained.size,
        "general.license": LICENSE,
        "general.languages": list(trained.languages),
        "general.file_type": FILE_TYPES[block_type],
        "general.quantization_version": 2,
    }


def _shape(shape: Shape) -> dict[str, Any]:
    return {
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.hidden,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.key_heads,
        "llama.attention.layer_norm_rms_epsilon": shape.epsilon,
        "llama.rope.freq_base": shape.theta,
        "llama.rope.dimension_count": shape.head_width,
        "llama.vocab_size": shape.vocabulary,
    }


def _tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    tokens = [str(tokenizer.id_to_token(index)) for index in range(tokenizer.get_vocab_size())]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],  # 3: control, 1: normal
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": _id(tokenizer, "<|begin_of_text|>"),
        "tokenizer.ggml.eos_token_id": _id(tokenizer, "<|eot_id|>"),
        "tokenizer.ggml.padding_token_id": _id(tokenizer, "<|finetune_right_pad_id|>"),
        "tokenizer.chat_template": TEMPLATE,
    }


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer has no {token}")
    return int(found)


def write_hugging_face(trained: Trained, folder: Path, kind: torch.dtype = torch.float16) -> None:
    """Write config, weights and tokenizer as `transformers` does."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": tensor.to(kind).contiguous() for name, tensor in trained.weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with_begin(trained.tokenizer).save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", _configuration(trained, kind))
    _write_json(folder / "tokenizer_config.json", _tokenizer_configuration(trained.shape))
    begin, end = _ends(trained.tokenizer)
    _write_json(folder / "generation_config.json", {"bos_token_id": begin, "eos_token_id": end, "do_sample": False})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _ends(tokenizer: Tokenizer) -> tuple[int, list[int]]:
    """Return the ids that begin a text and that end an answer."""
    names = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
    return _id(tokenizer, "<|begin_of_text|>"), [_id(tokenizer, name) for name in names]


def _configuration(trained: Trained, kind: torch.dtype) -> dict[str, Any]:
    shape = trained.shape
    begin, end = _ends(trained.tokenizer)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": begin,
        "eos_token_id": end,
        "torch_dtype": str(kind).removeprefix("torch."),
    }


def _tokenizer_configuration(shape: Shape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|finetune_right_pad_id|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "chat_template": TEMPLATE,
    }


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the training folder")
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--type", choices=[kind.name for kind in FILE_TYPES], default="F16", help="of the GGUF")
    parser.add_argument("--hugging-face", type=Path)
    parser.add_argument(
        "--averaged", action="store_true", help="the running average of the weights, for a run that has not ended"
    )
    options = parser.parse_args()
    trained = read(options.folder, options.averaged)
    if options.gguf:
        options.gguf.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(trained, options.gguf, BlockType[options.type])
    if options.hugging_face:
        write_hugging_face(trained, options.hugging_face)


if __name__ == "__main__":
    main()
