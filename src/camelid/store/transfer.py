"""Models go from a registry to the store, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from camelid.errors import StoreError

from .blobs import Digest
from .download import download
from .locks import locked
from .manifests import Layer, Manifest
from .names import Name
from .registry import Registry
from .store import Entry, Store


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens. `done` gets the bytes of the layer done since its last call."""

    begin: Callable[[Layer], object] = lambda layer: None
    done: Callable[[int], object] = lambda size: None
    wait: Callable[[Digest], object] = lambda digest: None
    say: Callable[[str], object] = lambda text: None


def pull(store: Store, name: Name, watcher: Watcher, confirm: Callable[[Manifest, int], object]) -> Entry:
    """Fetch a model. `confirm` is told manifest and bytes to fetch before the first of them, and may raise.

    The manifest is written last. Raises NotFound, RegistryError, StoreError.
    """
    registry = Registry(name)
    watcher.say("fetching the manifest")
    manifest = registry.manifest()
    missing = [layer for layer in manifest.blobs if not store.blobs.has(layer.digest)]
    need_bytes = sum(layer.size for layer in missing)
    store.blobs.check_space(need_bytes)
    confirm(manifest, need_bytes)
    for layer in manifest.blobs:
        _fetch(store, layer, registry, watcher)
    with locked(store.folder / "locks" / "manifests"):
        lost = [layer.digest for layer in manifest.blobs if not store.blobs.has(layer.digest)]
        if lost:
            raise StoreError(f"{lost[0]} was deleted while the model was fetched", hint="pull it again")
        store.manifests.write(store.manifests.find(name) or name, manifest)
    return store.entry(name)


def push(entry: Entry, target: Name, watcher: Watcher) -> None:
    """Send a model of the store to a registry. Raises RegistryError, OSError."""
    registry = Registry(target)
    for layer in entry.manifest.blobs:
        watcher.begin(layer)
        if not registry.has_blob(layer.digest):
            registry.upload(layer, entry.store.blobs.path(layer.digest))
        watcher.done(layer.size)
    watcher.say("storing the manifest")
    registry.put_manifest(entry.manifest)


def _fetch(store: Store, layer: Layer, registry: Registry, watcher: Watcher) -> None:
    with locked(store.folder / "locks" / layer.digest.file_name, lambda: watcher.wait(layer.digest)):
        watcher.begin(layer)
        download(store.blobs, layer, registry, watcher.done)
