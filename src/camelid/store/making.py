"""A Modelfile becomes a model of the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from camelid.errors import NotFound, UnsupportedModel

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

    `weights` is the GGUF file that FROM was converted to, where it names something else. Layers of the base that the
    Modelfile does not replace stay. Raises NotFound, UnsupportedModel, StoreError.
    """
    if given.adapters:
        raise UnsupportedModel("ADAPTER is not supported yet")
    layers = {layer.media_type: layer for layer in _base(store, given.base, folder, progress, weights)}
    for kind, text in _texts(given):
        layers[OLLAMA_LAYER + kind] = _layer(store, kind, text)
    config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
    image = Layer(CONFIG_TYPE, store.blobs.add(config), len(config))
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


def _texts(given: Modelfile) -> list[tuple[str, str]]:
    """Return the layers that a Modelfile brings: kind and content."""
    parameters = given.parameter_layer()
    messages = [{"role": role, "content": text} for role, text in given.messages]
    named = {
        "template": given.template,
        "system": given.system,
        "params": json.dumps(parameters) if parameters else None,
        "messages": json.dumps(messages, ensure_ascii=False) if messages else None,
        "license": "\n".join(given.licenses) or None,
    }
    return [(kind, text) for kind, text in named.items() if text is not None]


def _layer(store: Store, kind: str, text: str) -> Layer:
    content = text.encode()
    return Layer(OLLAMA_LAYER + kind, store.blobs.add(content), len(content))
