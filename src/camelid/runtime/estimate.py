"""What a model is going to take, from the first bytes of its file: before anything is fetched, placed or allocated.

The arithmetic is the one that loading uses; only what a file's metadata say is believed here, since more is not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from camelid.backends.auto import devices, survey
from camelid.backends.base import AttentionSpec, CacheType, RopePairs
from camelid.errors import ModelError, OutOfMemory
from camelid.formats.gguf_peek import peek_gguf
from camelid.models import spec as bounds
from camelid.models.fields import Fields
from camelid.models.memory import MemoryNeed
from camelid.models.mixes import MIXES
from camelid.settings import ModelSettings

from .sizing import SHORTEST_CONTEXT, choose_sizing

# What a process takes beside weights and cache: Python, its packages and the buffers of a step, and the tokenizer with
# each of its tokens. Measured with `camelid run`; docs/decisions/0043.
PROCESS_BYTES, TOKEN_BYTES = 64 << 20, 1 << 10
HEAD_BYTES = 64 << 10
LLAMA_3_TOKENS = 128_256  # for a file that says its number of tokens further on

_FILE_TYPES = {mix.file_type: mix.name for mix in MIXES.values()}


@dataclass(frozen=True)
class Estimate:
    """A model's numbers. `context_length` is what it would be loaded with, and `memory_bytes` what it takes then."""

    parameters: str
    quantization: str
    trained_context: int
    context_length: int
    memory_bytes: int
    available_bytes: int
    fits: bool


def estimate(head: bytes, weight_bytes: int, settings: ModelSettings) -> Estimate | None:
    """Return what a model takes whose file begins with `head`, or whose config.json `head` is; None if it says nothing.

    Raises InvalidSetting, MissingDependency.
    """
    numbers = _numbers(head)
    if numbers is None:
        return None
    backend = survey(settings)
    page_bytes = backend.page_bytes(numbers.attention, CacheType(settings.cache_type))
    need = MemoryNeed(weight_bytes, page_bytes)
    available_bytes = backend.memory().available_bytes
    try:
        context = choose_sizing(need, available_bytes, numbers.trained_context, settings).context_length
        fits = True
    except OutOfMemory:
        context, fits = settings.context_length or min(SHORTEST_CONTEXT, numbers.trained_context), False
    memory_bytes = need.total_bytes(context) + PROCESS_BYTES + numbers.num_tokens * TOKEN_BYTES
    return Estimate(
        numbers.parameters,
        numbers.quantization,
        numbers.trained_context,
        context,
        memory_bytes,
        available_bytes,
        fits and memory_bytes <= available_bytes,
    )


def most_tokens_per_second(weight_bytes: int, settings: ModelSettings) -> float | None:
    """Return how fast a model of that size can answer one request here at most: every token reads all weights once.

    None where that is not known: on other devices than the CPU, and without the compiled part. Raises InvalidSetting.
    """
    if devices(settings)[0] != "cpu" or weight_bytes <= 0:
        return None
    try:
        from camelid.backends.cpu import machine
        from camelid.backends.cpu._native import available_isas
        from camelid.backends.cpu.bandwidth import read_bandwidth

        isa = settings.cpu_isa or available_isas()[-1]
        return read_bandwidth(isa, settings.threads or machine.default_threads()) / weight_bytes
    except (ImportError, MemoryError):
        return None


@dataclass(frozen=True)
class Kind:
    """What a model's file says of itself in a few words; empty where it says nothing."""

    architecture: str = ""
    parameters: str = ""
    quantization: str = ""


def kind_of(weights: Path) -> Kind:
    """Return what the first bytes of a GGUF file say, which is enough for a list of many models. Raises OSError."""
    with weights.open("rb") as file:
        metadata = peek_gguf(file.read(HEAD_BYTES))
    texts = (metadata.get(f"general.{name}") for name in ("architecture", "size_label"))
    architecture, parameters = (text if isinstance(text, str) else "" for text in texts)
    return Kind(architecture, parameters, _FILE_TYPES.get(metadata.get("general.file_type", -1), ""))


@dataclass(frozen=True)
class _Numbers:
    attention: AttentionSpec
    trained_context: int
    parameters: str
    quantization: str
    num_tokens: int


def _numbers(head: bytes) -> _Numbers | None:
    try:
        metadata = peek_gguf(head)
        return _from_gguf(metadata) if metadata else _from_config(_config(head))
    except ModelError:
        return None


def _from_gguf(metadata: Mapping[str, Any]) -> _Numbers:
    fields = Fields(metadata, "llama.")
    heads = fields.count("attention.head_count", bounds.MAX_HEADS)
    dim = fields.count("embedding_length", bounds.MAX_DIM)
    attention = _attention(
        fields.count("block_count", bounds.MAX_LAYERS),
        heads,
        fields.count("attention.head_count_kv", bounds.MAX_HEADS, default=heads),
        fields.count("attention.key_length", bounds.MAX_HEAD_DIM, default=dim // heads or 1),
    )
    quantization = _FILE_TYPES.get(metadata.get("general.file_type", -1), "")
    label = metadata.get("general.size_label")
    context = fields.count("context_length", bounds.MAX_CONTEXT)
    num_tokens = fields.count("vocab_size", bounds.MAX_VOCABULARY, default=LLAMA_3_TOKENS)
    return _Numbers(attention, context, label if isinstance(label, str) else "", quantization, num_tokens)


def _from_config(config: Mapping[str, Any]) -> _Numbers:
    fields = Fields(config)
    heads = fields.count("num_attention_heads", bounds.MAX_HEADS)
    dim = fields.count("hidden_size", bounds.MAX_DIM)
    attention = _attention(
        fields.count("num_hidden_layers", bounds.MAX_LAYERS),
        heads,
        fields.count("num_key_value_heads", bounds.MAX_HEADS, default=heads),
        fields.count("head_dim", bounds.MAX_HEAD_DIM, default=dim // heads or 1),
    )
    names = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
    quantization = names.get(fields.text("torch_dtype", fields.text("dtype", "")), "")
    context = fields.count("max_position_embeddings", bounds.MAX_CONTEXT)
    num_tokens = fields.count("vocab_size", bounds.MAX_VOCABULARY, default=LLAMA_3_TOKENS)
    return _Numbers(attention, context, "", quantization, num_tokens)


def _config(head: bytes) -> Mapping[str, Any]:
    try:
        given = json.loads(head)
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, Mapping) else {}


def _attention(num_layers: int, num_heads: int, num_kv_heads: int, head_dim: int) -> AttentionSpec:
    """Return what counts for the size of a cache; how it rotates does not."""
    none = np.zeros(head_dim // 2)
    return AttentionSpec(num_layers, num_heads, num_kv_heads, head_dim, none, RopePairs.HALVES, 1.0)
