"""Models go from a registry to the store, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from camelid.errors import InvalidRequest

from .blobs import Digest
from .download import Source, download
from .manifests import Layer, Manifest
from .names import HUGGING_FACE, META, Name
from .registry import Registry
from .store import Entry, Store


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens. `done` gets the bytes of the layer done since its last call."""

    begin: Callable[[Layer], object] = lambda layer: None
    done: Callable[[int], object] = lambda size: None
    wait: Callable[[Digest], object] = lambda digest: None
    say: Callable[[str], object] = lambda text: None


class Origin(Source, Protocol):
    """Where a model comes from: its manifest, and its blobs."""

    def manifest(self) -> Manifest:
        """Return the model's manifest. Raises NotFound, RegistryError, DamagedManifest."""


def pull(
    store: Store,
    name: Name,
    watcher: Watcher,
    confirm: Callable[[Manifest, int], object],
    origin: Origin | None = None,
) -> Entry:
    """Fetch a model. `confirm` is told manifest and bytes to fetch before the first of them, and may raise.

    `origin` is what the name's host asks for, if it is not given. The manifest is written last. Raises NotFound,
    RegistryError, StoreError.
    """
    origin = origin or origin_of(name)
    watcher.say("fetching the manifest")
    manifest = origin.manifest()
    missing = [layer for layer in manifest.blobs if not store.blobs.has(layer.digest)]
    need_bytes = sum(layer.size for layer in missing)
    store.blobs.check_space(need_bytes)
    confirm(manifest, need_bytes)
    for layer in manifest.blobs:
        _fetch(store, layer, origin, watcher)
    return store.list_model(name, manifest)


def origin_of(name: Name) -> Origin:
    """Return who is asked for a model. Raises InvalidRequest for one of Meta's, which takes a URL."""
    if name.host == META:
        hint = f"ask Meta for one, then: camelid pull {name} --url 'https://…'"
        raise InvalidRequest(f"{name} is fetched with a signed URL", field="model", hint=hint)
    if name.host == HUGGING_FACE:
        from .hugging_face import HuggingFace

        return HuggingFace(name)
    return Registry(name)


def push(entry: Entry, target: Name, watcher: Watcher) -> None:
    """Send a model of the store to a registry. Raises RegistryError, OSError."""
    if target.host in (HUGGING_FACE, META):
        hint = "push to Ollama's registry, to Docker Hub, or to a registry of your own"
        raise InvalidRequest(f"nothing can be pushed to {target.host} here", field="model", hint=hint)
    registry = Registry(target)
    for layer in entry.manifest.blobs:
        watcher.begin(layer)
        if not registry.has_blob(layer.digest):
            registry.upload(layer, entry.store.blobs.path(layer.digest))
        watcher.done(layer.size)
    watcher.say("storing the manifest")
    registry.put_manifest(entry.manifest)


def _fetch(store: Store, layer: Layer, origin: Origin, watcher: Watcher) -> None:
    with store.lock(layer.digest, lambda: watcher.wait(layer.digest)):
        watcher.begin(layer)
        download(store.blobs, layer, origin, watcher.done)
