"""Registries that speak Docker's distribution protocol: Ollama's, Docker Hub, any OCI registry, hf.co's door.

Sources: the OCI distribution specification 1.1; Docker's token authentication specification.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from camelid.errors import NotFound, RegistryError

from .blobs import Digest
from .download import Piece
from .http import Answer, Http, is_loopback, site_of
from .manifests import DOCKER_MANIFEST, MAX_MANIFEST_BYTES, OCI_MANIFEST, Layer, Manifest, parse_manifest
from .names import DOCKER, OLLAMA, PART, Name
from .signing import HINT, find_signer, signed_url
from .uploads import upload_in_parts

MAX_TOKEN_BYTES = 64 << 10
MAX_ERROR_BYTES = 64 << 10
MAX_TAGS = 200
REAL_HOSTS = {DOCKER: "registry-1.docker.io"}
REALMS = {
    "registry-1.docker.io": "auth.docker.io"
}  # hosts whose tokens come from another one; all others from themselves
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """The models of one name's repository."""

    def __init__(self, name: Name) -> None:
        self.name = name
        self._host = REAL_HOSTS.get(name.host, name.host)
        is_plain = name.is_plain or is_loopback(urlsplit(f"//{self._host}").hostname or "")
        self._base = f"{'http' if is_plain else 'https'}://{self._host}/v2/{name.repository}"
        self._is_signed = name.host == OLLAMA or is_loopback(urlsplit(f"//{name.host}").hostname or "")
        self._http = Http(may_be_plain=is_plain)
        self._authorization: dict[str, str] = {}

    def manifest(self) -> Manifest:
        """Return the manifest of the name's tag. Raises NotFound, RegistryError, DamagedManifest."""
        accept = {"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
        answer = self._read("GET", f"{self._base}/manifests/{self.name.tag}", accept, most_bytes=MAX_MANIFEST_BYTES)
        if answer.status == 404:
            raise NotFound(f"{self._host} has no model {self.name}", hint="check the name and the tag")
        self._check(answer, "fetching the manifest")
        return parse_manifest(answer.body, str(self.name))

    def tags(self) -> list[str]:
        """Return the repository's tags, the first MAX_TAGS. Raises NotFound, RegistryError."""
        answer = self._read("GET", f"{self._base}/tags/list?n={MAX_TAGS}", {}, most_bytes=MAX_MANIFEST_BYTES)
        if answer.status == 404:
            raise NotFound(f"{self._host} has no model {self.name.repository}", hint="check the name")
        self._check(answer, "listing the tags")
        try:
            given = json.loads(answer.body).get("tags") or []
        except (ValueError, AttributeError, RecursionError) as error:
            raise RegistryError(f"{self._host} lists no tags: {error}") from error
        return [tag for tag in given if isinstance(tag, str) and PART.fullmatch(tag)][:MAX_TAGS]

    @contextmanager
    def piece(self, layer: Layer, start: int, end: int) -> Iterator[Piece]:
        """Yield bytes [start, end) of a blob as they arrive. Raises RegistryError."""
        headers = {**self._authorization, "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        url = f"{self._base}/blobs/{layer.digest}"
        with self._http.open("GET", url, headers) as (response, _):
            if response.status == 401:
                self._authorize(response.headers)
                raise RegistryError(f"{self._host} asks who is there", status=401)
            if response.status not in (200, 206):
                raise RegistryError(
                    f"{self._host} answers {response.status} for {layer.digest}", status=response.status
                )
            is_part = response.status == 206
            if is_part and not response.headers.get("Content-Range", "").startswith(
                f"bytes {start}-{end - 1}/{layer.size}"
            ):
                raise RegistryError(f"{self._host} sent another part of {layer.digest} than was asked for")
            yield Piece(start if is_part else 0, response.stream(1 << 20, decode_content=False))

    # ── push ──

    def has_blob(self, digest: Digest) -> bool:
        """Say whether the repository has a blob."""
        return self._read("HEAD", f"{self._base}/blobs/{digest}", {}, most_bytes=0).status == 200

    def upload(self, layer: Layer, path: Path) -> None:
        """Send a blob, in one request, or in parts to Ollama's registry. Raises RegistryError."""
        begun = self._read("POST", f"{self._base}/blobs/uploads/", {"Content-Length": "0"}, most_bytes=MAX_ERROR_BYTES)
        self._check(begun, "beginning an upload")
        if self.name.host == OLLAMA or "Docker-Upload-Location" in begun.headers:
            upload_in_parts(self._http, self._authorization_for, begun, layer, path)
            return
        place = urljoin(begun.url, begun.headers.get("Location", ""))
        url = f"{place}{'&' if '?' in place else '?'}{urlencode({'digest': str(layer.digest)})}"
        headers = {
            **(self._authorization if urlsplit(url).netloc == urlsplit(self._base).netloc else {}),
            "Content-Length": str(layer.size),
            "Content-Type": "application/octet-stream",
        }
        with path.open("rb") as file, self._http.open("PUT", url, headers, body=file) as (response, asked):
            self._check(Answer(response.status, response.headers, response.read(MAX_ERROR_BYTES), asked), "uploading")

    def put_manifest(self, manifest: Manifest) -> None:
        """Make the pushed model be there, under the name's tag. Raises RegistryError."""
        url = f"{self._base}/manifests/{self.name.tag}"
        headers = {"Content-Type": manifest.media_type}
        answer = self._read("PUT", url, headers, most_bytes=MAX_ERROR_BYTES, body=manifest.content)
        self._check(answer, "storing the manifest")

    # ── who asks ──

    def _read(
        self, method: str, url: str, headers: Mapping[str, str], *, most_bytes: int, body: bytes | None = None
    ) -> Answer:
        """Ask, once more with a token if the registry wants one."""
        answer = self._http.read(method, url, {**headers, **self._authorization}, most_bytes=most_bytes, body=body)
        if answer.status == 401:
            self._authorize(answer.headers)
            answer = self._http.read(method, url, {**headers, **self._authorization}, most_bytes=most_bytes, body=body)
        return answer

    def _authorization_for(self, url: str, refused: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return who we are, to the registry alone; told what it answered when it did not believe us."""
        if site_of(url) != site_of(self._base):
            return {}
        if refused is not None:
            self._authorize(refused)
        return self._authorization

    def _authorize(self, headers: Mapping[str, str]) -> None:
        """Get what the registry's challenge asks for. Raises RegistryError."""
        scheme, _, rest = _value(headers, "WWW-Authenticate").partition(" ")
        basic = _docker_login(self.name.host)
        if scheme.lower() == "basic" and basic:
            self._authorization = {"Authorization": f"Basic {basic}"}
            return
        if scheme.lower() != "bearer":
            raise RegistryError(f"{self._host} wants a login", status=401, hint=f"docker login {self.name.host}")
        challenge = dict(_CHALLENGE.findall(rest))
        realm = challenge.pop("realm", "")
        self._check_realm(realm)
        wanted = {name: challenge[name] for name in ("service", "scope") if name in challenge}
        url, asked = f"{realm}?{urlencode(wanted)}", {"Authorization": f"Basic {basic}"} if basic else {}
        signer = find_signer() if self._is_signed else None
        if signer is not None and not basic:
            url = signed_url(realm, wanted)
            asked = {"Authorization": signer.sign("GET", url)}
        answer = self._http.read("GET", url, asked, most_bytes=MAX_TOKEN_BYTES)
        if answer.status in (401, 403) and self._is_signed:
            said = f"{self._host} does not let us in" + ("" if signer is None else " with this machine's key")
            raise RegistryError(said, status=403, hint=HINT)
        self._check(answer, "asking for a token")
        self._authorization = {"Authorization": f"Bearer {_token(answer)}"}

    def _check_realm(self, realm: str) -> None:
        """Refuse to ask another host for a token than the registry's own, or the one that is known to be its."""
        parts, own = urlsplit(realm), urlsplit(self._base)
        if parts.netloc not in (own.netloc, REALMS.get(self._host)) or (own.scheme, parts.scheme) == ("https", "http"):
            raise RegistryError(f"{self._host} sends us to {parts.netloc} for a token, which is refused")

    def _check(self, answer: Answer, doing: str) -> None:
        if answer.status >= 300:
            said = answer.body[:300].decode("utf-8", errors="replace").strip()
            raise RegistryError(f"{self._host} answers {answer.status} {doing}: {said}", status=answer.status)


def _value(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")


def _token(answer: Answer) -> str:
    try:
        given = json.loads(answer.body)
        token = given.get("token") or given.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or any(char.isspace() for char in token):
        raise RegistryError(f"{urlsplit(answer.url).netloc} sent no token")
    return token


def _docker_login(host: str) -> str | None:
    """Return the login that `docker login` stored for a host, as Basic authentication sends it."""
    folder = Path(os.environ.get("DOCKER_CONFIG", "~/.docker")).expanduser()
    try:
        logins = json.loads((folder / "config.json").read_bytes())["auths"]
        stored = logins.get("https://index.docker.io/v1/" if host == DOCKER else host, {}).get("auth")
        return stored if isinstance(stored, str) and base64.b64decode(stored, validate=True) else None
    except (OSError, ValueError, KeyError, AttributeError, RecursionError):
        return None
