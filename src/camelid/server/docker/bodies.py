"""What clients of Docker Model Runner send. Unknown fields are refused by name."""

from __future__ import annotations

from typing import Any

import msgspec

from camelid.errors import InvalidRequest
from camelid.settings import parse_keep_alive


class CreateBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A model to be pulled."""

    from_: str = msgspec.field(name="from", default="")
    ignores_memory: bool = msgspec.field(name="ignore-runtime-memory-check", default=False)  # of older clients
    bearer_token: str | None = msgspec.field(name="bearer-token", default=None)


class PushBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a model is pushed."""

    bearer_token: str | None = msgspec.field(name="bearer-token", default=None)


class UnloadBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to leave memory."""

    all: bool = False
    backend: str = ""
    models: list[str] = []


class ConfigureBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a model is to be run."""

    model: str = ""
    mode: str | None = None
    context_size: int | None = msgspec.field(name="context-size", default=None)
    runtime_flags: list[str] | None = msgspec.field(name="runtime-flags", default=None)
    raw_runtime_flags: str | None = msgspec.field(name="raw-runtime-flags", default=None)
    speculative: dict[str, Any] | None = None
    keep_alive: str | None = None
    vllm: dict[str, Any] | None = None
    llamacpp: dict[str, Any] | None = None


_OTHERS = ("runtime_flags", "raw_runtime_flags", "speculative", "vllm", "llamacpp")


def keep_s(body: ConfigureBody) -> float | None:
    """Return how long the model stays, None for as long as usual.

    Raises InvalidRequest for what cannot be done here.
    """
    if not body.model:
        raise InvalidRequest("model is required", field="model")
    for name in _OTHERS:
        if getattr(body, name):
            field = name.replace("_", "-") if "runtime" in name else name
            hint = "start the server with the setting that you need (camelid serve --help)"
            raise InvalidRequest(f"{field} cannot be set for a running server", field=field, hint=hint)
    if body.mode not in (None, "", "completion", "embedding", "reranking"):
        raise InvalidRequest(f"mode must be completion, embedding or reranking, got {body.mode!r}", field="mode")
    try:
        return None if body.keep_alive is None else parse_keep_alive(body.keep_alive)
    except ValueError as error:
        raise InvalidRequest(f"keep_alive: {error}", field="keep_alive") from error
