"""A Modelfile becomes a model of the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from camelid.errors import NotFound, UnsupportedModel
from camelid.formats.json_file import load_json

from .local import BUNDLED, find
from .manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, Manifest, write_manifest
from .modelfile import Modelfile
from .names import Name, parse_name
from .places import find_entry
from .store import GGUF_LAYERS, Store, is_weights

CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"


def create(
    store: Store,
    name: Name,
    given: Modelfile,
    folder: Path,
    progress: Callable[[int], object] = lambda _: None,
    weights: Path | None = None,
) -> Manifest:
    """Make the model `name` of a Modelfile that lies in `folder`, and return its manifest.

    `weights` is the GGUF file that FROM was converted to, where it names something else.
    What the base has and the Modelfile does not replace stays: single parameters too, and licences are added to. An
    adapter replaces the base's; whether it fits the weights is found when they are loaded.
    Raises NotFound, UnsupportedModel, StoreError.
    """
    adapters = [_adapter(store, folder / Path(path).expanduser()) for path in given.adapters]
    base = _base(store, given.base, folder, progress, weights)
    inherited = _read_base(store, base)
    new = adapters + [_layer(store, kind, text) for kind, text in _texts(given, inherited)]
    kinds = {layer.media_type for layer in new if layer.media_type != OLLAMA_LAYER + "license"}
    if OLLAMA_LAYER + "template" in kinds:
        kinds.add(OLLAMA_LAYER + "prompt")  # its older name
    kept = [layer for layer in base if layer.media_type not in kinds]
    layers = {(layer.media_type, layer.digest): layer for layer in (*kept, *new)}
    config = {"model_format": "gguf", "model_family": "llama"}
    if given.requires is not None:
        config["requires"] = given.requires
    content = json.dumps(config).encode()
    image = Layer(CONFIG_TYPE, store.blobs.add(content), len(content))
    manifest = write_manifest(DOCKER_MANIFEST, image, tuple(layers.values()))
    return store.list_model(name, manifest).manifest


def weights_of(store: Store, base: str, folder: Path) -> Path:
    """Return what FROM names: a GGUF file or a folder. Raises NotFound, StoreError."""
    path = folder / Path(base).expanduser()
    if base == BUNDLED or path.exists():
        return find(base if base == BUNDLED else str(path)).weights
    return find(base, str(store.folder)).weights


def _base(
    store: Store, base: str, folder: Path, progress: Callable[[int], object], converted: Path | None
) -> list[Layer]:
    """Return the layers that FROM stands for: those of a stored model, or one of a GGUF file."""
    path = folder / Path(base).expanduser()
    is_stored = base != BUNDLED and not path.exists()
    if is_stored and converted is None:
        return _stored(store, base)
    beside = [layer for layer in _stored(store, base) if not is_weights(layer)] if is_stored else []
    weights = converted or find(base if base == BUNDLED else str(path)).weights
    if weights.is_dir():
        raise UnsupportedModel(f"{base} is a folder, and a stored model is one GGUF file")
    return [_weights_layer(store, weights, progress), *beside]


def _weights_layer(store: Store, weights: Path, progress: Callable[[int], object]) -> Layer:
    digest = store.blobs.add_file(weights, progress)
    return Layer(f"{OLLAMA_LAYER}model", digest, weights.stat().st_size)


def _stored(store: Store, base: str) -> list[Layer]:
    try:
        entry = find_entry(parse_name(base), str(store.folder))
    except NotFound as error:
        raise NotFound(f"FROM names {base!r}, which is neither a file nor a model here", hint=error.hint) from error
    for layer in entry.manifest.layers:
        if not store.blobs.has(layer.digest):  # another program's store: its file is linked, or copied
            store.blobs.add_file(entry.store.blobs.path(layer.digest))
    return [
        Layer(f"{OLLAMA_LAYER}model", layer.digest, layer.size) if layer.media_type in GGUF_LAYERS else layer
        for layer in entry.manifest.layers
    ]


def _read_base(store: Store, layers: list[Layer]) -> dict[str, object]:
    """Return the parameters of a base."""
    for layer in layers:
        if layer.media_type == f"{OLLAMA_LAYER}params":
            return load_json(store.blobs.path(layer.digest))
    return {}


def _texts(given: Modelfile, inherited: dict[str, object]) -> list[tuple[str, str]]:
    """Return the layers that a Modelfile brings: kind and content."""
    parameters = given.parameter_layer()
    messages = [{"role": role, "content": text} for role, text in given.messages]
    named = {
        "template": given.template,
        "system": given.system,
        "params": json.dumps({**inherited, **parameters}) if parameters else None,
        "messages": json.dumps(messages, ensure_ascii=False) if messages else None,
    }
    found = [(kind, text) for kind, text in named.items() if text is not None]
    return found + [("license", text) for text in given.licenses]


def _adapter(store: Store, path: Path) -> Layer:
    if not path.is_file():
        raise NotFound(f"ADAPTER names {str(path)!r}, which is no file", hint="give a LoRA adapter in a GGUF file")
    return Layer(f"{OLLAMA_LAYER}adapter", store.blobs.add_file(path), path.stat().st_size)


def _layer(store: Store, kind: str, text: str) -> Layer:
    content = text.encode()
    return Layer(OLLAMA_LAYER + kind, store.blobs.add(content), len(content))
