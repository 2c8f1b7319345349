"""Who may use the server: keys, and the rules that keep web pages of strangers out.

Keys are held as hashes and compared in constant time. The Host and Origin rules matter on this machine without a key: a
page in the user's browser can reach it, by DNS rebinding or by a plain form, and must get nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.types import Scope

from camelid.errors import InvalidSetting, Unauthorized
from camelid.settings import ServerSettings


class Keys:
    """The keys that are accepted. Without any, everyone is."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key.encode()) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, authorization: bytes | None) -> None:
        """Raise Unauthorized unless the header's value is `Bearer`, or Baseten's `Api-Key`, and a known key."""
        if not self._digests:
            return
        if authorization is None:
            raise Unauthorized("an API key is needed", hint="send it as the header Authorization: Bearer KEY")
        scheme, key = _split(authorization)
        digest = _digest(key)
        known = [hmac.compare_digest(digest, one) for one in self._digests]  # all of them: time tells nothing
        if scheme.lower() not in (b"bearer", b"api-key") or not any(known):
            raise Unauthorized("the API key is not known to this server")

    def holds(self, authorization: bytes | None) -> bool:
        """Tell whether the header's value is `Bearer` and a known key. Without any keys, none is."""
        try:
            self.check(authorization)
        except Unauthorized:
            return False
        return bool(self)

    def owner(self, authorization: bytes | None) -> str:
        """Return what tells the holder of a key that was checked from all others; without keys all are one."""
        if not self._digests or authorization is None:
            return ""
        return _digest(_split(authorization)[1]).hex()


def check_exposure(settings: ServerSettings) -> None:
    """Refuse to listen beyond this machine without a key, unless that was asked for by name. Raises InvalidSetting."""
    if settings.api_key or settings.insecure_no_key or is_loopback(settings.host):
        return
    raise InvalidSetting(
        f"{settings.host} can be reached from other machines, and no API key is set",
        hint=f"set one, for example --api-key {secrets.token_hex(16)}, or serve everyone with --insecure-no-key",
    )


def skips_safety(scope: Scope) -> bool:
    """Tell whether a request that was let in asks for no safety checks, and may."""
    return bool(scope.get("state", {}).get("skips_safety", False))


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on, or a name of one, is reachable from this machine only."""
    address = _address(host)
    if address is not None:
        return address
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(_address(str(entry[4][0])) for entry in found)


def allowed_host(header: bytes, configured: str) -> bool:
    """Tell whether a Host header names this machine:

    loopback, `localhost`, or the name that the server was told to listen on.

    A page that rebinds its own name to 127.0.0.1 still sends its own name here.
    """
    name = host_name(header)
    return name in ("localhost", configured.lower()) or name.endswith(".localhost") or bool(_address(name))


def host_name(header: bytes) -> str:
    """Return the name in a Host header, without port and brackets, in small letters."""
    text = header.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def same_origin(origin: bytes, scheme: str, host: bytes) -> bool:
    """Tell whether a request that names its origin comes from a page of this very server."""
    return origin.lower() == f"{scheme}://".encode() + host.strip().lower()


def _address(text: str) -> bool | None:
    """Return whether `text` is a loopback address; None if it is no address."""
    try:
        return ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return None


def _split(authorization: bytes) -> tuple[bytes, bytes]:
    """Return the scheme and the key of an Authorization header."""
    scheme, _, key = authorization.partition(b" ")
    return scheme, key.strip()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
