"""Manifests: which blobs a model is made of. Docker's schema 2, which Ollama and OCI artifacts share.

The bytes of a manifest are kept as they came, because their digest is the model's identity. A manifest is written last:
a model is there when its manifest is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.errors import DamagedManifest, InvalidRequest

from .blobs import Digest, digest_of, parse_digest
from .files import DISK, Disk
from .names import Name, parse_name

MAX_MANIFEST_BYTES = 4 << 20
MAX_LAYERS = 4096
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OLLAMA_LAYER = "application/vnd.ollama.image."
DOCKER_LAYER = "application/vnd.docker.ai."


@dataclass(frozen=True)
class Layer:
    """One blob and what it is for. `path` is where a multi-file model wants it, relative and safe."""

    media_type: str
    digest: Digest
    size: int
    path: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A manifest, and the bytes that it was read from."""

    content: bytes
    media_type: str
    config: Layer
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> Digest:
        """The model's identity."""
        return digest_of(self.content)

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(layer.size for layer in self.blobs)

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """All its blobs, each once."""
        return tuple({layer.digest: layer for layer in (*self.layers, self.config)}.values())


def parse_manifest(content: bytes, what: str) -> Manifest:
    """Return the manifest that `content` writes. `what` names it in errors. Raises DamagedManifest."""
    if len(content) > MAX_MANIFEST_BYTES:
        raise DamagedManifest(f"the manifest of {what} has {len(content)} bytes, more than {MAX_MANIFEST_BYTES}")
    try:
        given = json.loads(content)
        if not isinstance(given, dict) or given.get("schemaVersion") != 2:
            raise ValueError("schemaVersion must be 2")
        layers = given.get("layers")
        if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
            raise ValueError(f"layers must be 1–{MAX_LAYERS}")
        found = tuple(map(_layer, layers))
        return Manifest(content, str(given.get("mediaType", DOCKER_MANIFEST)), _layer(given.get("config")), found)
    except (ValueError, RecursionError, InvalidRequest) as error:
        raise DamagedManifest(f"the manifest of {what} cannot be read: {error}") from error


def write_manifest(media_type: str, config: Layer, layers: tuple[Layer, ...]) -> Manifest:
    """Return the manifest of a model that is made here: compact JSON with a newline, as Ollama writes it."""
    value = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _written(config),
        "layers": [_written(layer) for layer in layers],
    }
    content = (json.dumps(value, separators=(",", ":")) + "\n").encode()
    return Manifest(content, media_type, config, layers)


class Manifests:
    """The manifests of one store: `manifests/<host>/<namespace>/<model>/<tag>`."""

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        self.folder = folder
        self.disk = disk

    def path(self, name: Name) -> Path:
        """Return where the manifest lies or would lie."""
        return self.folder.joinpath(*name.parts)

    def find(self, name: Name) -> Name | None:
        """Return the name under which there is a manifest; letters' case does not count."""
        if self.path(name).is_file():
            return name
        wanted = tuple(part.lower() for part in name.parts)
        return next((other for other in self if tuple(part.lower() for part in other.parts) == wanted), None)

    def read(self, name: Name) -> Manifest:
        """Return a manifest that is there. Raises DamagedManifest, OSError."""
        return parse_manifest(self.path(name).read_bytes(), str(name))

    def write(self, name: Name, manifest: Manifest) -> None:
        """Make the model be there. Its blobs are there already."""
        path = self.path(name)
        self.disk.put(path, manifest.content)
        for folder in list(path.parents)[1:5]:  # a process that was killed may have made them and not synced them
            self.disk.sync_folder(folder)

    def remove(self, name: Name) -> None:
        """Forget a model for good, and the folders that are empty then."""
        path = self.path(name)
        self.disk.unlink(path)
        self.disk.sync_folder(path.parent)  # before its blobs go: what is listed must be whole
        for folder in list(path.parents)[:3]:
            if not self.disk.remove_folder(folder):
                break

    def __iter__(self) -> Iterator[Name]:
        """Yield the names of all manifests; files that no name leads to are passed over."""
        for path in sorted(self.folder.glob("*/*/*/*")):
            host, namespace, model, tag = path.parts[-4:]
            try:
                name = parse_name(f"{host}/{namespace}/{model}:{tag}")
            except InvalidRequest:
                continue
            if path.is_file() and name.parts == path.parts[-4:]:
                yield name


def _layer(given: object) -> Layer:
    if not isinstance(given, Mapping):
        raise ValueError("a layer must be an object")
    size = given.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise ValueError(f"the size of a layer is {size!r}")
    media_type = given.get("mediaType")
    if not isinstance(media_type, str):
        raise ValueError("a layer must have a mediaType")
    return Layer(media_type, parse_digest(given.get("digest")), size, _path(given.get("annotations")))


def _path(annotations: object) -> str | None:
    """Return the path that a layer's annotations ask for. Raises ValueError for one that leads out of a folder."""
    path = annotations.get("org.cncf.model.filepath") if isinstance(annotations, Mapping) else None
    if path is None:
        return None
    parts = path.split("/") if isinstance(path, str) else []
    if not parts or len(parts) > 8 or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise ValueError(f"a layer wants to lie at {path!r}")
    return str(path)


def _written(layer: Layer) -> dict[str, Any]:
    value: dict[str, Any] = {"mediaType": layer.media_type, "digest": str(layer.digest), "size": layer.size}
    return value if layer.path is None else {**value, "annotations": {"org.cncf.model.filepath": layer.path}}
