"""Models as Meta hands them out: a signed URL with a star where the path goes, and for each model a folder of files.

The URL is a secret of a day: it is sent to its own host only, shown nowhere and stored nowhere. What was fetched with
one goes on with the next. `checklist.chk` (Llama 3) holds the MD5 of each file; where a model has none, sizes are all
that can be checked, and the caller is told.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from camelid.errors import DamagedBlob, InvalidRequest, NotFound, RegistryError, StoreError

from .blobs import Digest, digest_of, parse_digest
from .download import Piece, arrive, discard, keep
from .http import Http
from .manifests import DOCKER_LAYER, OCI_MANIFEST, OLLAMA_LAYER, Layer, Manifest, write_manifest
from .names import Name
from .store import Entry, Store
from .transfer import Watcher

MAX_SMALL_BYTES = 16 << 20  # params.json, tokenizer.model (2 MB), the checklist
MAX_LICENSE_BYTES = 1 << 20
WEIGHTS_LAYER = "application/vnd.camelid.meta.weights"
FILE_LAYER = f"{DOCKER_LAYER}model.file"
CONFIG = b'{"config":{"format":"meta"}}'
CHECKLIST = "checklist.chk"

# What people call the first generation, and the folders that hold it. Later ones are folders by their own names.
FOLDERS = {
    "meta-llama-3-8b": "8b_pre_trained",
    "meta-llama-3-8b-instruct": "8b_instruction_tuned",
    "meta-llama-3-70b": "70b_pre_trained",
    "meta-llama-3-70b-instruct": "70b_instruction_tuned",
}
_NEW_URL = "a link lives a day: ask Meta for a new one and give it with --url; what was fetched is kept"
_CHECK = re.compile(r"([0-9a-f]{32}) [ *](?:\./)?(\S+)")
_SHARD = re.compile(r"consolidated\.(\d\d)\.pth")


@dataclass(frozen=True)
class Wanted:
    """A file of weights: its size, and its MD5 where Meta says it."""

    path: str
    size: int
    md5: str | None

    def arriving(self, folder: str) -> Layer:
        """Return the layer under which it arrives: its digest stands for which file it is, not for its content."""
        identity = json.dumps(["meta", folder, self.path, self.size, self.md5]).encode()
        return Layer(WEIGHTS_LAYER, digest_of(identity), self.size, self.path)


class Meta:
    """One model's folder behind one signed URL."""

    def __init__(self, name: Name, url: str) -> None:
        """Check the URL. Raises InvalidRequest, RegistryError when it is not https."""
        if url.count("*") != 1 or "*" not in urlsplit(url).path or not urlsplit(url).query:
            hint = "copy the whole link from Meta's mail, in single quotes: it holds a * and a long signature"
            raise InvalidRequest("that is no signed URL of Meta", field="url", hint=hint)
        self.folder = FOLDERS.get(name.model.lower(), name.model)
        self._url, self._host, self._http = url, urlsplit(url).netloc, Http()

    def small(self, path: str, most_bytes: int = MAX_SMALL_BYTES) -> bytes:
        """Return a small file of the model. Raises NotFound, RegistryError."""
        answer = self._http.read("GET", self._of(f"{self.folder}/{path}"), {}, most_bytes=most_bytes)
        self._check(answer.status, path)
        return answer.body

    def license(self) -> bytes | None:
        """Return the licence that lies beside all models, if it can be had."""
        answer = self._http.read("GET", self._of("LICENSE"), {}, most_bytes=MAX_LICENSE_BYTES)
        return answer.body if answer.status == 200 and not answer.body.lstrip().startswith(b"<") else None

    def checklist(self) -> dict[str, str]:
        """Return the MD5 of each file; nothing where the model has no checklist. Raises RegistryError."""
        try:
            content = self.small(CHECKLIST).decode("utf-8", errors="replace")
        except (NotFound, RegistryError) as error:
            if isinstance(error, RegistryError) and error.status != 403:
                raise
            return {}  # no such file is answered with 403, too; if it is the link, the next file says so
        found = {path: md5 for md5, path in _CHECK.findall(content)}
        if not found:
            raise RegistryError(f"the checklist of {self.folder} holds no checksums", hint=_NEW_URL)
        return found

    def size(self, path: str) -> int:
        """Return how long a file is, which is asked for by its first byte. Raises NotFound, RegistryError."""
        url = self._of(f"{self.folder}/{path}")
        answer = self._http.read("GET", url, {"Range": "bytes=0-0"}, most_bytes=MAX_SMALL_BYTES)
        self._check(answer.status, path)
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if answer.status != 206 or not total.isdecimal():
            raise RegistryError(f"{self._host} does not say how long {path} is")
        return int(total)

    @contextmanager
    def piece(self, layer: Layer, start: int, end: int) -> Iterator[Piece]:
        """Yield bytes [start, end) of a file as they arrive. Raises RegistryError."""
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self._http.open("GET", self._of(f"{self.folder}/{layer.path}"), headers) as (response, _):
            self._check(response.status, str(layer.path))
            given = response.headers.get("Content-Range", "")
            if response.status != 206 or given != f"bytes {start}-{end - 1}/{layer.size}":
                raise RegistryError(f"{self._host} sent another part of {layer.path} than was asked for")
            yield Piece(start, response.stream(1 << 20, decode_content=False))

    def _of(self, path: str) -> str:
        return self._url.replace("*", quote(path))

    def _check(self, status: int, path: str) -> None:
        if status == 403:
            said = (
                f"{self._host} refuses {self.folder}/{path}: the link has expired, is used up, or is not for this model"
            )
            raise RegistryError(said, status=403, hint=_NEW_URL)
        if status == 404:
            raise NotFound(f"{self._host} has no {self.folder}/{path}", hint=f"names are those of Meta: {_known()}")
        if status not in (200, 206):
            raise RegistryError(f"{self._host} answers {status} for {path}", status=status)


def pull_meta(
    store: Store, name: Name, url: str, watcher: Watcher, confirm: Callable[[Manifest, int], object]
) -> Entry:
    """Fetch a model of Meta's. `confirm` is told what it takes before the first byte of the weights, and may raise.

    Raises NotFound, InvalidRequest, RegistryError (403: give a new URL), DamagedBlob, StoreError.
    """
    meta = Meta(name, url)
    watcher.say("fetching the list of files")
    sums = meta.checklist()
    if not sums:
        watcher.say(f"Meta publishes no checksums for {meta.folder}: only sizes can be checked")
    small = {path: _checked(path, meta.small(path), sums) for path in ("params.json", "tokenizer.model")}
    wanted = [Wanted(path, meta.size(path), sums.get(path)) for path in _shards(name, sums)]
    coming = tuple(file.arriving(meta.folder) for file in wanted)
    missing = [layer for layer in coming if _known_digest(store, layer) is None]
    need_bytes = sum(layer.size for layer in missing)
    store.blobs.check_space(need_bytes)
    config = Layer(f"{DOCKER_LAYER}model.config.v0.1+json", digest_of(CONFIG), len(CONFIG))
    confirm(write_manifest(OCI_MANIFEST, config, coming), need_bytes)
    weights = tuple(_fetch(store, meta, file, watcher) for file in wanted)
    beside = [(f"{OLLAMA_LAYER}license", None, meta.license()), *((FILE_LAYER, *item) for item in small.items())]
    layers = [Layer(kind, store.blobs.add(text), len(text), path) for kind, path, text in beside if text is not None]
    store.blobs.add(CONFIG)
    return store.list_model(name, write_manifest(OCI_MANIFEST, config, (*weights, *layers)))


def _fetch(store: Store, meta: Meta, file: Wanted, watcher: Watcher) -> Layer:
    """Fetch a file of weights, and return it as the layer that it is when its content is known."""
    layer = file.arriving(meta.folder)
    with store.lock(layer.digest, lambda: watcher.wait(layer.digest)):
        watcher.begin(layer)
        digest = _known_digest(store, layer)
        if digest is not None:
            watcher.done(layer.size)
        else:
            digest = _arrived(store, meta, file, layer, watcher)
        return Layer(WEIGHTS_LAYER, digest, file.size, file.path)


def _arrived(store: Store, meta: Meta, file: Wanted, layer: Layer, watcher: Watcher) -> Digest:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    arrive(store.blobs, layer, meta, watcher.done, [sha256, md5])
    if file.md5 is not None and md5.hexdigest() != file.md5:
        discard(store.blobs, layer)
        raise DamagedBlob(f"{file.path} arrived with the MD5 {md5.hexdigest()}, not {file.md5}", hint="pull it again")
    digest = Digest(sha256.hexdigest())
    keep(store.blobs, layer, digest)
    store.disk.put(_note(store, layer), str(digest).encode())
    return digest


def _note(store: Store, layer: Layer) -> Path:
    """Return the file that says which content a file of Meta's turned out to have."""
    return store.folder / "meta" / layer.digest.hex


def _known_digest(store: Store, layer: Layer) -> Digest | None:
    """Return the content of a file that was fetched before and is still here."""
    try:
        digest = parse_digest(_note(store, layer).read_text("ascii", errors="replace"))
    except (OSError, InvalidRequest):
        return None
    return digest if store.blobs.has(digest) else None


def _shards(name: Name, sums: dict[str, str]) -> list[str]:
    """Return the files of weights: those of the checklist, else as many as a model of this size has."""
    listed = sorted(path for path in sums if _SHARD.fullmatch(path))
    if listed:
        if listed != [_shard(number) for number in range(len(listed))]:
            raise RegistryError(f"the checklist of {name} names {', '.join(listed[:20])}, which is no whole set")
        return listed
    billions = re.search(r"(\d+)b(?:-|$)", name.model.lower())
    size = int(billions[1]) if billions else 0
    return [_shard(number) for number in range(16 if "mp16" in name.model.lower() else 8 if size >= 70 else 1)]


def _shard(number: int) -> str:
    return f"consolidated.{number:02d}.pth"


def _checked(path: str, content: bytes, sums: dict[str, str]) -> bytes:
    """Return a small file's content. Raises DamagedBlob."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if sums.get(path, found) != found:
        raise DamagedBlob(f"{path} arrived with the MD5 {found}, not {sums[path]}", hint="pull it again")
    if content.lstrip().startswith(b"<"):
        raise StoreError(f"{path} arrived as a web page", hint=_NEW_URL)
    return content


def _known() -> str:
    return ", ".join(("Meta-Llama-3-8B-Instruct", "Meta-Llama-3-70B-Instruct", "Meta-Llama-3.1-8B-Instruct"))
