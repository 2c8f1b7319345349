"""HTTP to registries, with the rules that keep credentials and sizes where they belong.

Redirects are followed here, at most MAX_REDIRECTS, never from https to http, and never with credentials to another
host. Answers that are read whole have a bound. Knows no registry.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from camelid.errors import RegistryError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

MAX_REDIRECTS = 5
MAX_REDIRECT_BODY = 64 << 10
CONNECT_S, READ_S = 15.0, 30.0  # without a byte for so long, a connection counts as dead
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Answer:
    """An answer that was read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def check_url(url: str, *, may_be_plain: bool) -> str:
    """Return `url` if it may be asked: https, or http where that was said or the host is this machine.

    Raises RegistryError.
    """
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or may_be_plain or is_loopback(parts.hostname or "")
    if is_safe and parts.scheme in ("http", "https") and parts.username is None and parts.hostname:
        return url
    hint = "write http:// before the name to allow it"
    raise RegistryError(f"{parts.scheme}://{parts.netloc} is not asked: it is not safe", hint=hint)


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine by its name, without looking it up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Http:
    """Connections, kept open between requests; any thread may use it."""

    def __init__(self, *, may_be_plain: bool = False) -> None:
        self._may_be_plain = may_be_plain
        self._pool: PoolManager | None = None

    def read(
        self, method: str, url: str, headers: Mapping[str, str], *, most_bytes: int, body: bytes | None = None
    ) -> Answer:
        """Ask, and read the answer whole. Raises RegistryError, also for more than `most_bytes`."""
        with self.open(method, url, headers, body=body) as (response, asked):
            content = response.read(most_bytes + 1)
            if len(content) > most_bytes:
                raise RegistryError(f"{_site(asked)} answers with more than {most_bytes} bytes where less is expected")
            return Answer(response.status, response.headers, content, asked)

    @contextmanager
    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | IO[bytes] | None = None,
        follow: bool = True,
    ) -> Iterator[tuple[BaseHTTPResponse, str]]:
        """Ask, follow redirects unless told not to, and yield the answer with its URL. Raises RegistryError."""
        import urllib3

        sent = dict(headers)
        for _ in range(MAX_REDIRECTS + 1):
            check_url(url, may_be_plain=self._may_be_plain)
            try:
                response = self._connections().request(
                    method, url, headers=sent, body=body, redirect=False, retries=False, preload_content=False
                )
            except urllib3.exceptions.HTTPError as error:
                raise RegistryError(f"{_site(url)} cannot be reached: {_brief(error)}") from error
            if not follow or response.status not in REDIRECTS or "location" not in response.headers:
                break
            response.read(MAX_REDIRECT_BODY)  # read to its end, the connection serves again; anything longer ends it
            response.close()
            url, sent = self._next(url, response.headers["location"], sent)
        else:
            raise RegistryError(f"{_site(url)} sends on and on: more than {MAX_REDIRECTS} redirects")
        try:
            yield response, url
        except urllib3.exceptions.HTTPError as error:
            raise RegistryError(f"{_site(url)} broke off: {_brief(error)}") from error
        finally:
            response.close()

    def _next(self, url: str, location: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        target = sent_on(url, location)
        if site_of(url) != site_of(target):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        return target, headers

    def _connections(self) -> PoolManager:
        if self._pool is None:
            import urllib3

            timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
            self._pool = urllib3.PoolManager(maxsize=16, timeout=timeout, headers={})
        return self._pool


def sent_on(url: str, location: str) -> str:
    """Return where `url` sends us. Raises RegistryError for a place that is less safe, or this machine."""
    target = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(target)
    if old.scheme == "https" and new.scheme != "https":
        raise RegistryError(f"{_site(url)} sends on to {_site(target)}, which is not safe")
    if is_loopback(new.hostname or "") and not is_loopback(old.hostname or ""):
        raise RegistryError(f"{_site(url)} sends on to this machine, which is refused")
    return target


def site_of(url: str) -> tuple[str, str]:
    """Return scheme, host and port: what credentials are for."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _site(url: str) -> str:
    return urlsplit(url).netloc or url[:100]


def _brief(error: Exception) -> str:
    return str(error)[:200]
