"""The requests that both servers are sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

HI = {"messages": [{"role": "user", "content": "Say hé."}]}
BINARY = {"content-type": "application/octet-stream"}
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Exchange:
    """One request. `while_loading`: sent before the model is loaded."""

    name: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    while_loading: bool = False


def _post(name: str, body: Any, path: str = "/v1/models/model:predict", **headers: str) -> Exchange:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Exchange(name, "POST", path, {**JSON, **named}, data)


def _packed(name: str, body: Any, path: str, **headers: str) -> Exchange:
    return Exchange(name, "POST", path, {**BINARY, **headers}, msgspec.msgpack.encode(body))


EXCHANGES = (
    Exchange("not ready", "GET", "/v1/models/model", while_loading=True),
    Exchange("not loaded", "GET", "/v1/models/model/loaded", while_loading=True),
    Exchange("ping while loading", "GET", "/ping", while_loading=True),
    Exchange("ready", "GET", "/v1/models/model"),
    Exchange("loaded", "GET", "/v1/models/model/loaded"),
    Exchange("ping", "GET", "/ping"),
    _post("stream by default", HI),
    _post("stream", {**HI, "stream": True}),
    _post("whole", {**HI, "stream": False}),
    _post(
        "whole, with other fields",
        {**HI, "stream": False, "max_tokens": 9, "temperature": 0.5, "top_p": 0.5, "top_k": 5},
    ),
    _post("fields that nobody knows", {**HI, "stream": False, "num_beams": 4, "colour": "red"}),
    _post("stream in one piece", HI, accept="application/json"),
    _post("stream for the OpenAI client", HI, accept="application/json", user_agent="OpenAI/Python 1.61.0"),
    _post("any name of a model", {**HI, "stream": False}, "/v1/models/whatever:predict"),
    _post("binary path with JSON", {**HI, "stream": False}, "/v1/models/model:predict_binary"),
    _post("invocations", {**HI, "stream": False}, "/invocations"),
    _post("a form's content type", {**HI, "stream": False}, content_type="application/x-www-form-urlencoded"),
    _packed("msgpack", {**HI, "stream": False}, "/v1/models/model:predict_binary"),
    _packed("msgpack to the other path", {**HI, "stream": False}, "/v1/models/model:predict"),
    _packed("msgpack, streamed", HI, "/v1/models/model:predict_binary"),
    _packed("msgpack, in one piece", HI, "/v1/models/model:predict_binary", accept="application/json"),
    _post("a conversation", {"messages": [*HI["messages"], {"role": "assistant", "content": "hé"}, *HI["messages"]]}),
    _post("no JSON", b'{"messages": [}'),
    _post("nothing", b""),
    _post("half of a body", b'{"messages": ['),
    _post("messages are missing", {"stream": False}),
    _post("predict of the gateway", HI, "/predict"),
    _post("predict of the gateway, version 1", HI, "/v1/predict"),
    Exchange("liveness", "GET", "/"),
    Exchange("schema", "GET", "/v1/models/model/schema"),
    Exchange("ready under any name", "GET", "/v1/models/whatever"),
)
