"""Docker Model Runner's other paths for what other dialects answer: `/engines/…`, `/anthropic/…`, and short ones.

A request is renamed before anything looks at it, so keys, bounds and errors are those of the path that answers. Pure,
but for the middleware at the end.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

BACKENDS = ("llama.cpp", "vllm", "mlx", "sglang", "diffusers")
_SOCKET_PREFIX = re.compile(r"^/exp/v[A-Za-z0-9.]{1,16}(?=/)")  # what the Docker socket puts in front
_ENGINE = re.compile(rf"^/engines(?:/(?:{'|'.join(map(re.escape, BACKENDS))}))?(?=/v1/)")
_SHORT = {"/responses": "/v1/responses", "/rerank": "/v1/rerank"}


def answered_at(path: str) -> str:
    """Return the path that answers a request for `path`."""
    path = _SOCKET_PREFIX.sub("", path)
    rest = _ENGINE.sub("", path)
    if rest != path:
        # What is there is Docker's own list, with what it tells of each model.
        return f"/engines{rest}" if rest == "/v1/models" or rest.startswith("/v1/models/") else rest
    if path.startswith("/anthropic/v1/"):
        return path.removeprefix("/anthropic")
    path = re.sub(r"^/engines/(?:" + "|".join(map(re.escape, BACKENDS)) + r")(?=/_configure$)", "/engines", path)
    return _SHORT.get(path, path)


def is_dockers(path: str) -> bool:
    """Tell whether a path is one of Docker Model Runner's own."""
    return path in ("/models", "/version") or path.startswith(("/models/", "/engines/"))


class Aliased:
    """Renames requests (ASGI middleware, in front of all others)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under the path that answers it (the entry that ASGI wants)."""
        if scope["type"] == "http" and (path := answered_at(scope["path"])) != scope["path"]:
            scope = {**scope, "path": path, "raw_path": path.encode("utf-8")}
        await self._app(scope, receive, send)
