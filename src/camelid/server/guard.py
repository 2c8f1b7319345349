"""What every request passes before it reaches a route: a name for the log, and the rules of `auth.py`.

Plain ASGI middleware around the whole router, so that no route can be forgotten, now or later.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camelid.errors import Unauthorized

from .auth import Keys, allowed_host, is_loopback, same_origin
from .docker.aliases import is_dockers
from .errors import Envelope, Problem, http_problem, problem_of, respond
from .predict.routes import is_predicts

# Probes carry no key; they tell nothing but yes or no. The last two are SageMaker's and Truss's.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/ping", "/v1/models/model"})

SAFETY_HEADER = b"camelid-safety"  # `off`: an operator's request that no safety model judges

_logger = logging.getLogger("camelid.server.access")
_SAFETY = ((b"x-content-type-options", b"nosniff"),)
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # a client's own id is kept if it cannot upset a log


class Named:
    """Gives each request an id, returns it in `x-request-id`, and logs one line when the answer is complete."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on (the entry that ASGI wants)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _headers(scope).get(b"x-request-id", b"")
        request_id = given.decode() if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        status, began = 500, time.monotonic()

        async def named_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *_SAFETY]
            await send(message)

        try:
            await self._app(scope, receive, named_send)
        finally:
            level = logging.DEBUG if scope["path"] in OPEN_PATHS else logging.INFO
            seconds = time.monotonic() - began
            path = scope["raw_path"].decode("latin-1")  # still percent-encoded: no line ends for the log
            _logger.log(level, "%s %s %d in %.3f s %s", scope["method"], path, status, seconds, request_id)


class Guard:
    """Refuses what may not come in. `host` is the address that the server listens on; who carries one of `admins` may
    do what others may not.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, admins: Keys, host: str, envelope_of: Callable[[Scope], Envelope]
    ) -> None:
        self._app, self._keys, self._admins, self._envelope_of = app, keys, admins, envelope_of
        self._host = host
        self._is_local = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it (the entry that ASGI wants)."""
        problem = self._problem(scope) if scope["type"] == "http" and scope["path"] not in OPEN_PATHS else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await respond(problem, self._envelope_of(scope))(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = _headers(scope)
        host = headers.get(b"host", b"")
        if self._is_local and not allowed_host(host, self._host):
            return http_problem(
                403,
                "the Host header names no address of this machine. A proxy in front must set it to localhost",
                close=True,
            )
        origin = headers.get(b"origin")
        if origin is not None and not same_origin(origin, scope["scheme"], host):
            return http_problem(403, "requests from pages of another origin are not served", close=True)
        key = headers.get(b"authorization") or _as_bearer(headers.get(b"x-api-key"))
        scope.setdefault("state", {})["owner"] = self._keys.owner(key)
        is_admin = self._admins.holds(key)
        try:
            if not is_admin:
                self._keys.check(key)
        except Unauthorized as error:
            return replace(problem_of(error), close=scope["method"] == "POST")  # its body is not read
        safety = headers.get(SAFETY_HEADER, b"on").lower()
        if safety not in (b"on", b"off"):
            return http_problem(400, "the header Camelid-Safety must be on or off", close=True)
        if safety == b"off" and not is_admin:
            return http_problem(403, "safety checks can be left out only with an admin key (--admin-key)", close=True)
        scope["state"]["skips_safety"] = safety == b"off"
        # Pages of other origins are out by their Origin header; the examples of Ollama and Truss post with curl's own
        # content type, and Truss's clients msgpack.
        is_free = origin is None and _takes_any_type(scope["path"])
        if scope["method"] == "POST" and not is_free and not _is_json(headers.get(b"content-type", b"")):
            return http_problem(415, "the body must be sent as content-type: application/json", close=True)
        return None


def _takes_any_type(path: str) -> bool:
    return path.startswith("/api/") or is_predicts(path) or is_dockers(path)


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    return dict(scope["headers"])


def _as_bearer(key: bytes | None) -> bytes | None:
    """Return a key that comes in Anthropic's header as the other dialects send it."""
    return None if key is None else b"Bearer " + key


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"
