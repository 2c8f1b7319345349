"""Notices of jobs that ended, sent to an address that a client named: signed, and never into this network.

A client chooses where the server connects to. So it is https to a public address, resolved here and connected to as
resolved (a name that changes its address between looking and connecting leads nowhere), redirects are not followed,
proxies not asked, and of the answer only the status is read. Hosts that the operator names are free of these rules.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Collection, Sequence
from urllib.parse import SplitResult, urlsplit

import httpx2

from camelid.errors import InvalidRequest

SIGNATURE = "x-baseten-signature"
TIMEOUT_S = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses in other clothes


class Undelivered(Exception):
    """A notice that did not arrive, and why."""


def check_url(url: str, hosts: Collection[str]) -> None:
    """Refuse an address that no notice may be sent to; `hosts` are those that the operator allows.

    Raises InvalidRequest.
    """
    parts = _split(url)
    if _is_allowed(parts, hosts):
        return
    if parts.scheme != "https":
        raise _refused(f"webhook_endpoint must begin with https://, got {parts.scheme}://")
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return  # a name: its address counts when it is used
    if not _is_public(address):
        raise _refused(f"webhook_endpoint must be a public address, got {address}")


def signature(body: bytes, keys: Sequence[str]) -> str:
    """Return the value of the header: one signature for each key, Baseten's form."""
    return ",".join(f"v1={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}" for key in keys)


async def deliver(url: str, body: bytes, keys: Sequence[str], hosts: Collection[str]) -> None:
    """Post a notice. Raises Undelivered unless the other side answers with a status from 200 to 299."""
    headers = {"content-type": "application/json", "user-agent": "camelid"}
    if keys:
        headers[SIGNATURE] = signature(body, keys)
    try:
        target, extensions = await _target(url, hosts, headers)
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client:
            asked = client.build_request("POST", target, content=body, headers=headers, extensions=extensions)
            answer = await client.send(asked, stream=True)
            await answer.aclose()
    except (httpx2.HTTPError, httpx2.InvalidURL, InvalidRequest, OSError, UnicodeError) as error:
        raise Undelivered(f"{type(error).__name__}: {error}") from error
    if not 200 <= answer.status_code < 300:
        raise Undelivered(f"it was answered with {answer.status_code}")


async def _target(url: str, hosts: Collection[str], headers: dict[str, str]) -> tuple[str, dict[str, object]]:
    """Return the address to connect to, with the name that its certificate must have; sets the Host header."""
    check_url(url, hosts)
    parts = _split(url)
    if _is_allowed(parts, hosts):
        return url, {}
    name = parts.hostname or ""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, parts.port or 443, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not addresses or not all(map(_is_public, addresses)):
        raise _refused(f"webhook_endpoint must be a public address, and {name} is not")
    address = addresses[0]
    host = f"[{address}]" if address.version == 6 else str(address)
    headers["host"] = parts.netloc
    pinned = parts._replace(netloc=f"{host}:{parts.port or 443}").geturl()
    return pinned, {"sni_hostname": name}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise _refused(f"webhook_endpoint must be a URL: {error}") from error
    if not is_usable or parts.username is not None or not url.isascii() or any(letter <= " " for letter in url):
        raise _refused("webhook_endpoint must be a URL with a host and without a user")
    return parts


def _is_allowed(parts: SplitResult, hosts: Collection[str]) -> bool:
    return parts.hostname in hosts or parts.netloc.lower() in hosts


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64:
            return False
    return address.is_global and not address.is_multicast


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="webhook_endpoint", hint="--webhook-hosts lets an operator allow others")
