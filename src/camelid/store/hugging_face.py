"""Models of the Hugging Face hub: `huggingface_hub` lists a repository, our own downloads fetch it, and every byte is
checked: large files against the SHA-256 that the hub keeps of them, small ones against their ids in git.

What comes is written as a manifest of ours, so that a model of the hub is stored, listed and pushed like any other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from camelid.errors import DamagedBlob, NotFound, RegistryError

from .blobs import Digest, digest_of, parse_digest
from .download import Piece
from .http import Http
from .hub_files import SAFETENSORS, Chosen, HubFile, choose, license_of, variants_of
from .manifests import DOCKER_LAYER, OCI_MANIFEST, OLLAMA_LAYER, Layer, Manifest, write_manifest
from .names import Name

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

ENDPOINT = "https://huggingface.co"
MAX_SMALL_BYTES = 64 << 20  # a file that the hub keeps in git itself
TIMEOUT_S = 30.0
CONFIG_TYPE = f"{DOCKER_LAYER}model.config.v0.1+json"
_LOGIN = "accept the licence on the model's page, and set HF_TOKEN"


class HuggingFace:
    """One repository, at the commit that its main branch is at now."""

    def __init__(self, name: Name) -> None:
        from huggingface_hub import get_token

        self.name = name
        self._endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT
        self._host = urlsplit(self._endpoint).netloc
        self._token = get_token()
        self._http = Http()
        self._commit = ""
        self._urls: dict[Digest, str] = {}
        self._contents: dict[Digest, bytes] = {}

    def manifest(self) -> Manifest:
        """Return a manifest of the files that the name means. Raises NotFound, RegistryError, DamagedBlob.

        Files that the hub keeps in git are read here already, because their SHA-256 has to be known.
        """
        info = self._info()
        files = _files_of(info)
        chosen = choose(self.name, files)
        layers = [self._weights(file, chosen) for file in chosen.weights]
        layers += [self._layer(file, f"{DOCKER_LAYER}model.file", file.path) for file in chosen.companions]
        found = license_of(files)
        if found is not None:
            layers.append(self._layer(found, f"{OLLAMA_LAYER}license", None))
        return write_manifest(OCI_MANIFEST, self._config(info, chosen), tuple(layers))

    def variants(self) -> list[Chosen]:
        """Return all models that the repository holds. Raises NotFound, RegistryError."""
        return list(variants_of(_files_of(self._info())).values())

    def head(self, chosen: Chosen, most_bytes: int) -> bytes:
        """Return the first bytes of a model's weights, or its config.json, if it has one. Raises RegistryError."""
        configs = [file for file in chosen.companions if file.path == "config.json"]
        file = chosen.weights[0] if chosen.is_gguf else next(iter(configs), None)
        if file is None:
            return b""
        headers = {**self._authorization(), "Range": f"bytes=0-{most_bytes - 1}", "Accept-Encoding": "identity"}
        with self._http.open("GET", self._url(file), headers) as (response, _):
            self._check(response.status, file.path)
            return response.read(most_bytes, decode_content=False)

    @contextmanager
    def piece(self, layer: Layer, start: int, end: int) -> Iterator[Piece]:
        """Yield bytes [start, end) of a file as they arrive. Raises RegistryError."""
        if layer.digest in self._contents:
            yield Piece(0, iter([self._contents[layer.digest]]))
            return
        headers = {**self._authorization(), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self._http.open("GET", self._urls[layer.digest], headers) as (response, _):
            self._check(response.status, layer.path or str(layer.digest))
            is_part = response.status == 206
            given = response.headers.get("Content-Range", "")
            if is_part and not given.startswith(f"bytes {start}-{end - 1}/{layer.size}"):
                raise RegistryError(f"{self._host} sent another part than was asked for: {given[:80]!r}")
            yield Piece(start if is_part else 0, response.stream(1 << 20, decode_content=False))

    def _info(self) -> ModelInfo:
        """Ask the hub what the repository holds."""
        import httpx2
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

        api = HfApi(endpoint=self._endpoint, token=self._token or False)
        try:
            info = api.model_info(self.name.repository, files_metadata=True, timeout=TIMEOUT_S)
        except GatedRepoError as error:
            raise RegistryError(f"{self._host}/{self.name.repository} is gated", status=403, hint=_LOGIN) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            said = f"{self._host} has no model {self.name.repository}, or does not show it to us"
            raise NotFound(said, hint=f"check the name; for a private model, {_LOGIN}") from error
        except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
            raise RegistryError(f"{self._host} cannot be asked: {str(error)[:200]}") from error
        self._commit = info.sha or "main"
        return info

    def _weights(self, file: HubFile, chosen: Chosen) -> Layer:
        if not chosen.is_gguf:
            return self._layer(file, f"{DOCKER_LAYER}{SAFETENSORS}", file.path)
        is_whole = len(chosen.weights) == 1
        return self._layer(file, f"{OLLAMA_LAYER}model", None if is_whole else file.file_name)

    def _layer(self, file: HubFile, media_type: str, path: str | None) -> Layer:
        """Return a file as a layer; a small one is read."""
        if file.sha256 is not None:
            digest = parse_digest(f"sha256:{file.sha256}")
            self._urls[digest] = self._url(file)
            return Layer(media_type, digest, file.size, path)
        content = self._read_small(file)
        digest = digest_of(content)
        self._contents[digest] = content
        return Layer(media_type, digest, len(content), path)

    def _read_small(self, file: HubFile) -> bytes:
        answer = self._http.read("GET", self._url(file), self._authorization(), most_bytes=MAX_SMALL_BYTES)
        self._check(answer.status, file.path)
        found = hashlib.sha1(b"blob %d\0" % len(answer.body) + answer.body, usedforsecurity=False).hexdigest()
        if found != file.git:
            raise DamagedBlob(f"{file.path} of {self.name.repository} arrived as {found}, not {file.git}")
        return answer.body

    def _config(self, info: ModelInfo, chosen: Chosen) -> Layer:
        licence = info.card_data.get("license") if info.card_data is not None else None
        values = {"format": "gguf" if chosen.is_gguf else SAFETENSORS, "quantization": chosen.label}
        described = {"commit": self._commit, "license": licence if isinstance(licence, str) else None}
        content = json.dumps({"config": values, "hugging_face": described}, sort_keys=True).encode()
        self._contents[digest_of(content)] = content
        return Layer(CONFIG_TYPE, digest_of(content), len(content))

    def _url(self, file: HubFile) -> str:
        return f"{self._endpoint}/{self.name.repository}/resolve/{quote(self._commit, safe='')}/{quote(file.path)}"

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _check(self, status: int, what: str) -> None:
        if status in (401, 403):  # 403 for both: asking again does not help
            raise RegistryError(
                f"{self._host} does not give us {what} of {self.name.repository}", status=403, hint=_LOGIN
            )
        if status not in (200, 206):
            raise RegistryError(f"{self._host} answers {status} for {what}", status=status)


def _files_of(info: ModelInfo) -> list[HubFile]:
    """Return the files that the hub's answer lists; one without a size or id is passed over."""
    found = []
    for sibling in (info.siblings or [])[:4096]:
        lfs = sibling.lfs
        size = lfs.size if lfs is not None else sibling.size
        if isinstance(size, int) and size >= 0 and isinstance(sibling.blob_id, str):
            found.append(HubFile(sibling.rfilename, size, lfs.sha256 if lfs is not None else None, sibling.blob_id))
    return found
