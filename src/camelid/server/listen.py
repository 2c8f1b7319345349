"""The socket that the server listens on, opened before the model is loaded:

a port in use is told at once, not in a minute.
"""

from __future__ import annotations

import errno
import socket

from camelid.errors import InvalidSetting

BACKLOG = 2048
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_SEND_BUFFER_BYTES = (
    64 * 1024
)  # of the kernel, per connection; it would grow to megabytes for a reader that has gone to sleep


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. `::` listens on IPv4 too, and only there on a machine without IPv6.

    Raises InvalidSetting, with the reason and what to do.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        if host == "::" and error.errno in _NO_IPV6:
            return listen("0.0.0.0", port)
        raise _not_available(host, port, error) from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InvalidSetting(f"host {host!r} has no address: {error}", hint="check --host") from error
    family, _, _, _, address = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # connections inherit it
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL under which this machine reaches `listener`."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _not_available(host: str, port: int, error: OSError) -> InvalidSetting:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else port - 1
        return InvalidSetting(
            f"port {port} on {host} is in use",
            hint=f"stop what listens there (Ollama uses 11434 too), or choose another: --port {other}",
        )
    if error.errno == errno.EACCES:
        return InvalidSetting(f"port {port} is reserved for the system", hint="choose one above 1023 with --port")
    return InvalidSetting(f"cannot listen on {host}, port {port}: {error.strerror}", hint="check --host and --port")
