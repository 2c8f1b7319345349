"""What there is of a model before it is fetched: its variants, the first bytes of each, and its licence.

A registry lists its tags, the hub its files; Ollama's registry lists nothing, so the tags that people use are tried.
What the first bytes mean is for others to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from camelid.errors import CamelidError, NotFound

from .manifests import DOCKER_LAYER, OLLAMA_LAYER, Layer, Manifest
from .names import HUGGING_FACE, META, OLLAMA, Name
from .registry import Registry
from .store import GGUF_LAYERS, is_weights

if TYPE_CHECKING:
    from .transfer import Origin

HEAD_BYTES = 64 << 10
MAX_VARIANTS = 64
MAX_LICENSE_BYTES = 256 << 10
THREADS = 8
LICENSES = (f"{OLLAMA_LAYER}license", f"{DOCKER_LAYER}license")

# Of Llama's repositories in Ollama's registry, which has no list of tags.
_SIZES = {
    "llama3": ("8b", "70b"),
    "llama3.1": ("8b", "70b", "405b"),
    "llama3.2": ("1b", "3b"),
    "llama3.3": ("70b",),
}
_QUANTIZATIONS = ("q4_0", "q4_K_S", "q4_K_M", "q5_K_M", "q6_K", "q8_0", "fp16")


@dataclass(frozen=True)
class Variant:
    """One of a model's forms. `head` is the beginning of a GGUF file, or a config.json; empty where neither is had."""

    name: Name
    size: int
    head: bytes


def variants(name: Name) -> list[Variant]:
    """Return the variants of a model, the smallest first. Raises NotFound, RegistryError."""
    if name.host == META:
        raise NotFound("Meta's signed URLs list no variants", hint="look at hf.co/meta-llama, or ai/llama3.1")
    found = _of_hub(name) if name.host == HUGGING_FACE else _of_registry(name)
    if not found:
        raise NotFound(f"{name.host} shows no variants of {name.repository}", hint="check the name")
    return sorted(found, key=lambda variant: variant.size)


def head_of(origin: Origin, manifest: Manifest) -> bytes:
    """Return the first bytes of a model's weights, or its config.json. Raises RegistryError."""
    ggufs = [layer for layer in manifest.layers if layer.media_type in GGUF_LAYERS]
    configs = [layer for layer in manifest.layers if layer.path == "config.json"]
    return _first_bytes(origin, (ggufs or configs)[0], HEAD_BYTES) if ggufs or configs else b""


def licence_of(origin: Origin, manifest: Manifest) -> str:
    """Return the first line of a model's licence, empty if it brings none. Raises RegistryError."""
    for layer in manifest.layers:
        if layer.media_type in LICENSES and layer.size <= MAX_LICENSE_BYTES:
            text = _first_bytes(origin, layer, MAX_LICENSE_BYTES).decode("utf-8", errors="replace")
            return next((line.strip(" #\t") for line in text.splitlines() if line.strip(" #\t")), "")
    return ""


def weights_bytes(manifest: Manifest) -> int:
    """Return the size of a model's weights."""
    return sum(layer.size for layer in manifest.layers if is_weights(layer))


def _first_bytes(origin: Origin, layer: Layer, most_bytes: int) -> bytes:
    end, content = min(layer.size, most_bytes), b""
    if end == 0:
        return b""
    with origin.piece(layer, 0, end) as piece:
        for part in piece.content:
            content += part
            if len(content) >= end:
                break
    return content[:end]


def _of_hub(name: Name) -> list[Variant]:
    from .hugging_face import HuggingFace

    hub = HuggingFace(name)
    listed = hub.variants()[:MAX_VARIANTS]
    with ThreadPoolExecutor(THREADS) as pool:
        heads = pool.map(lambda variant: hub.head(variant, HEAD_BYTES), listed)
        return [
            Variant(replace(name, tag=chosen.label), sum(file.size for file in chosen.weights), head)
            for chosen, head in zip(listed, heads, strict=True)
        ]


def _of_registry(name: Name) -> list[Variant]:
    tags = _known_tags(name.model) if name.host == OLLAMA else Registry(name).tags()
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda tag: _of_tag(replace(name, tag=tag)), list(tags)[:MAX_VARIANTS]))
    failures = [each for each in found if isinstance(each, CamelidError) and not isinstance(each, NotFound)]
    if failures and len(failures) == len(found):
        raise failures[0]
    return [each for each in found if isinstance(each, Variant)]


def _of_tag(name: Name) -> Variant | CamelidError:
    """Return what a tag stands for, or why that cannot be told: many a tag is of something else."""
    registry = Registry(name)
    try:
        manifest = registry.manifest()
        return Variant(name, weights_bytes(manifest), head_of(registry, manifest))
    except CamelidError as error:
        return error


def _known_tags(model: str) -> Iterable[str]:
    sizes = _SIZES.get(model.lower())
    if sizes is None:
        return ("latest",)
    return (f"{size}-instruct-{quantization}" for size in sizes for quantization in _QUANTIZATIONS)
