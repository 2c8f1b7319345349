"""A store of models on this machine: manifests that say what a model is made of, and the blobs themselves.

The layout is Ollama's, so a store of Ollama is read in place. It knows no registry and no engine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from camelid.errors import DamagedBlob, FormatError, NotFound, StoreError, UnsupportedModel
from camelid.formats.json_file import load_json

from .blobs import Blobs, Digest, hash_file
from .copies import FOLDER, is_sound, place_of, useless_copies
from .files import DISK, Disk
from .locks import locked
from .manifests import DOCKER_LAYER, OLLAMA_LAYER, Layer, Manifest, Manifests
from .names import Name

GGUF_LAYERS = (f"{OLLAMA_LAYER}model", f"{DOCKER_LAYER}gguf.v3", "application/vnd.cncf.model.weight.v1.gguf")
SAFETENSORS_LAYERS = (f"{DOCKER_LAYER}safetensors", "application/vnd.cncf.model.weight.v1.safetensors")
REFUSED_LAYERS = {
    f"{OLLAMA_LAYER}projector": "an image projector",
    f"{DOCKER_LAYER}mmproj": "an image projector",
}
MAX_TEXT_BYTES = 4 << 20  # of a template, a system prompt, a licence; the longest licence in use has 20,000
PARTIAL_AGE_S = 3600.0  # a download that nobody has gone on with for so long may be pruned


def is_weights(layer: Layer) -> bool:
    """Whether a layer holds weights, or lies beside them in a model of several files."""
    return layer.media_type in (*GGUF_LAYERS, *SAFETENSORS_LAYERS) or layer.path is not None


@dataclass(frozen=True)
class Entry:
    """A model that is there."""

    name: Name
    manifest: Manifest
    modified_s: float
    store: Store


@dataclass(frozen=True)
class Leftover:
    """A file that no model needs."""

    path: Path
    size: int


class Store:
    """One folder of models. One that is not `is_own` is another program's: it is read, never written."""

    def __init__(self, folder: Path, is_own: bool = True, disk: Disk = DISK) -> None:
        self.folder = folder
        self.is_own = is_own
        self.disk = disk
        self.copies = folder / FOLDER
        self.making = folder / "making"  # where a model's weights are written before they are a blob
        self.blobs = Blobs(folder / "blobs", disk)
        self.manifests = Manifests(folder / "manifests", disk)

    def entries(self) -> Iterator[Entry]:
        """Yield the models that are there, whole; a damaged manifest is passed over."""
        for name in self.manifests:
            try:
                yield self.entry(name)
            except (StoreError, OSError):
                continue

    def entry(self, name: Name) -> Entry:
        """Return a model. Raises NotFound, and DamagedManifest."""
        found = self.manifests.find(name)
        if found is None:
            raise NotFound(f"there is no model {name} in {self.folder}", hint=f"fetch it: camelid pull {name}")
        manifest = self.manifests.read(found)
        return Entry(found, manifest, self.manifests.path(found).stat().st_mtime, self)

    def lock(self, digest: Digest, on_wait: Callable[[], object] = lambda: None) -> AbstractContextManager[None]:
        """Return a context in which this process alone fetches a blob."""
        return locked(self.folder / "locks" / digest.file_name, on_wait)

    def changing(self) -> AbstractContextManager[None]:
        """Return a context in which this process alone decides which blobs are needed."""
        return locked(self.folder / "locks" / "manifests")

    def list_model(self, name: Name, manifest: Manifest) -> Entry:
        """Write a manifest, which makes the model be there. Raises StoreError when one of its blobs is not."""
        with self.changing():
            lost = [layer.digest for layer in manifest.blobs if not self.blobs.has(layer.digest)]
            if lost:
                raise StoreError(f"{lost[0]} was deleted while the model was made", hint="do it again")
            self.disk.sync_folder(self.blobs.folder)  # names given by a process that was killed before it synced
            found = self.manifests.find(name) or name
            self.manifests.write(found, manifest)
        return self.entry(found)

    def weights(self, entry: Entry) -> Path:
        """Return what to open: a GGUF file, or a folder with safetensors. Raises StoreError, UnsupportedModel."""
        layers = entry.manifest.layers
        for layer in layers:
            if layer.media_type in REFUSED_LAYERS:
                raise UnsupportedModel(f"{entry.name} has {REFUSED_LAYERS[layer.media_type]}, which is not supported")
        missing = [layer for layer in layers if not self.blobs.has(layer.digest)]
        if missing:
            raise StoreError(f"{len(missing)} files of {entry.name} are gone", hint=f"camelid pull {entry.name}")
        ggufs = [layer for layer in layers if layer.media_type in GGUF_LAYERS]
        if len(ggufs) == 1 and ggufs[0].path is None:
            return self.blobs.path(ggufs[0].digest)
        if len(ggufs) > 1 and all(layer.path for layer in ggufs):  # shards: their first file stands for all
            return self._folder_of(entry) / min(layer.path or "" for layer in ggufs)
        if any(layer.media_type in SAFETENSORS_LAYERS or layer.path for layer in layers):
            return self._folder_of(entry)
        raise UnsupportedModel(f"{entry.name} has {len(ggufs)} GGUF files where one is expected")

    def parameters(self, entry: Entry) -> Mapping[str, object]:
        """Return the parameters that the model's makers set (Modelfile's PARAMETER), by Ollama's names."""
        for layer in entry.manifest.layers:
            if layer.media_type == f"{OLLAMA_LAYER}params":
                return load_json(self.blobs.path(layer.digest))
        return {}

    def messages(self, entry: Entry) -> tuple[tuple[str, str], ...]:
        """Return the beginning of every conversation (Modelfile's MESSAGE): role and text. Raises StoreError."""
        text = self.text(entry, "messages")
        try:
            given = json.loads(text) if text else []
            return tuple((str(message["role"]), str(message["content"])) for message in given)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(f"the messages of {entry.name} cannot be read: {error!r:.200}") from error

    def text(self, entry: Entry, kind: str) -> str:
        """Return the layers of a kind (`system`, `license`) as text, empty if there are none."""
        return "\n".join(self.texts(entry, kind))

    def texts(self, entry: Entry, kind: str) -> tuple[str, ...]:
        """Return each layer of a kind as text."""
        wanted = (OLLAMA_LAYER + kind, DOCKER_LAYER + kind)
        layers = [layer for layer in entry.manifest.layers if layer.media_type in wanted]
        return tuple(map(self._read, layers))

    def _read(self, layer: Layer) -> str:
        path = self.blobs.path(layer.digest)
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise StoreError(f"{layer.digest} has {path.stat().st_size} bytes of text, more than {MAX_TEXT_BYTES}")
        return path.read_text(encoding="utf-8", errors="replace")

    def adapters(self, entry: Entry) -> tuple[Path, ...]:
        """Return the model's adapters (Modelfile's ADAPTER), in their order."""
        layers = [layer for layer in entry.manifest.layers if layer.media_type == f"{OLLAMA_LAYER}adapter"]
        return tuple(self.blobs.path(layer.digest) for layer in layers)

    def template(self, entry: Entry) -> str | None:
        """Return the model's Go template (Modelfile's TEMPLATE), None if it has none. `prompt` is its older name."""
        found = [*self.texts(entry, "prompt"), *self.texts(entry, "template")]
        return found[-1] if found else None

    def requires(self, entry: Entry) -> str | None:
        """Return the version of Ollama that the model needs (Modelfile's REQUIRES), None if it names none."""
        config = self.blobs.path(entry.manifest.config.digest)
        if not config.is_file():
            return None
        try:
            given = load_json(config).get("requires")
        except FormatError:
            return None  # other programs put other things there
        return given if isinstance(given, str) else None

    def copy(self, source: Name, target: Name) -> None:
        """Give a model a second name. Raises NotFound."""
        self._check_own()
        self.list_model(target, self.entry(source).manifest)

    def remove(self, name: Name) -> list[Path]:
        """Forget a model and delete what no other one needs. Return what was deleted. Raises NotFound."""
        self._check_own()
        with self.changing():
            entry = self.entry(name)
            kept = self._needed(but=entry.name)  # first: it raises when a manifest cannot be read
            self.manifests.remove(entry.name)
            paths = [self.blobs.path(layer.digest) for layer in entry.manifest.blobs if layer.digest not in kept]
            for path in paths:
                self.disk.unlink(path)
            copies = list(useless_copies(self.copies))
            for path in copies:
                self.disk.unlink(path)
        return [*paths, *copies]

    def verify(self, entry: Entry, progress: Callable[[int], object] = lambda _: None) -> None:
        """Read all of a model's blobs and check them. Raises DamagedBlob for the first that is another."""
        for layer in entry.manifest.blobs:
            path = self.blobs.path(layer.digest)
            found = hash_file(path, progress) if path.is_file() else None
            if found != layer.digest:
                is_now = "gone" if found is None else f"{found} now"
                raise DamagedBlob(
                    f"{layer.digest} of {entry.name} is {is_now}",
                    hint=f"camelid rm {entry.name}; camelid pull {entry.name}",
                )

    def drop_damaged_copy(self, entry: Entry) -> bool:
        """Read the fast copy of a model's weights, if there is one; delete it, and return True, if it is damaged."""
        weights = self.weights(entry)
        path = place_of(weights, self.folder).path if weights.is_file() else None
        if path is None or not path.is_file() or is_sound(path):
            return False
        self.disk.unlink(path)
        return True

    def leftovers(self) -> list[Leftover]:
        """Return the files that no model needs: blobs, and downloads that nobody goes on with."""
        self._check_own()
        needed, old_s = self._needed(), time.time() - PARTIAL_AGE_S
        unused = [self.blobs.path(digest) for digest in self.blobs if digest not in needed]
        partial = [path for path in self.blobs.folder.glob("sha256-*-partial*") if path.stat().st_mtime < old_s]
        begun = (*self.manifests.folder.glob("*/*/*/.*.part"), *self.making.glob("*"))
        partial += [path for path in begun if path.is_file() and path.stat().st_mtime < old_s]
        found = (*unused, *sorted(partial, reverse=True), *useless_copies(self.copies))
        return [Leftover(path, path.stat().st_size) for path in found]

    def prune(self) -> list[Leftover]:
        """Delete the files that no model needs, and return what they were."""
        with self.changing():
            found = self.leftovers()
            for leftover in found:  # a list of chunks goes before the chunks that it speaks of
                self.disk.unlink(leftover.path)
                self.disk.sync_folder(leftover.path.parent)
        return found

    def _needed(self, but: Name | None = None) -> set[Digest]:
        """Return the blobs of all manifests but one. Raises DamagedManifest: what cannot be read may need anything."""
        names = [name for name in self.manifests if name != but]
        return {layer.digest for name in names for layer in self.manifests.read(name).blobs}

    def _check_own(self) -> None:
        if not self.is_own:
            raise StoreError(f"{self.folder} belongs to another program", hint="change its models with that program")

    def _folder_of(self, entry: Entry) -> Path:
        """Return a folder in which the model's files lie under their names, as links to the blobs."""
        folder = self.folder / "folders" / entry.manifest.digest.hex
        for layer in entry.manifest.layers:
            if layer.path is not None:
                self._link(folder.joinpath(*layer.path.split("/")), layer)
        return folder

    def _link(self, path: Path, layer: Layer) -> None:
        if path.is_symlink() or path.exists():
            return
        self.disk.make_folders(path.parent)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        self.disk.unlink(part)
        self.disk.symlink(self.blobs.path(layer.digest).resolve(), part)
        self.disk.rename(part, path)
