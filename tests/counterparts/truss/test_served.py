"""The same Truss folders under the real server and under ours: the same statuses, headers and bodies."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tools.truss.record import build, free_port, running, wait_until_ready

TRUSSES = Path(__file__).parents[2] / "trusses"
TRUSS = os.environ["COUNTERPART_PYTHON"]
PREDICT = "/v1/models/model:predict"
BINARY = {"content-type": "application/octet-stream"}
KEPT = ("content-type", "x-baseten-error-source", "x-baseten-error-code", "x-made")
ARRAY = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": (2,), b"data": b"\0" * 8}
Row = tuple[str, str, bytes, dict[str, str]]


def post(body: Any, path: str = PREDICT, **headers: str) -> Row:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return "POST", path, data, {"content-type": "application/json", **named}


def packed(body: Any, path: str = PREDICT) -> Row:
    return "POST", path, msgspec.msgpack.encode(body), BINARY


def get(path: str) -> Row:
    return "GET", path, b"", {}


DOES = (
    "given",
    "secret",
    "no_secret",
    "raise",
    "refuse",
    "refuse_at_length",
    "numpy",
    "unwritable",
    "pieces",
    "slowly",
)
DOES += ("response", "bad_response", "streaming_response", "nothing", "echo")
MANY: dict[str, Row] = {
    **{do: post({"do": do}) for do in DOES},
    "liveness": get("/"),
    "ready": get("/v1/models/model"),
    "ready under any name": get("/v1/models/whatever"),
    "GET of predict": get(PREDICT),
    "loaded": get("/v1/models/model/loaded"),
    "no schema": get("/v1/models/model/schema"),
    "ping": get("/ping"),
    "invocations": post({"do": "echo"}, "/invocations"),
    "any name": post({"do": "echo"}, "/v1/models/other:predict"),
    "binary": packed({"do": "echo", "x": [1, 2.5, None]}, "/v1/models/model:predict_binary"),
    "binary array": packed({"do": "echo", "x": ARRAY}),
    "binary numbers": packed({"do": "numpy"}),
    "binary date": packed({"do": "echo", "when": {b"__dt_datetime_iso__": True, b"data": "2026-01-02T03:04:05"}}),
    "binary pieces": packed({"do": "pieces"}),
    "pieces at once": post({"do": "pieces"}, accept="application/json"),
    "pieces for the OpenAI client": post({"do": "pieces"}, accept="application/json", user_agent="OpenAI/Python 1"),
    "no JSON": post(b"{"),
    "nothing": post(b""),
    "chat": post({"a": 1}, "/v1/chat/completions", x_test="seen"),
    "completions": post({"prompt": "p"}, "/v1/completions"),
    "no embeddings": post({}, "/v1/embeddings"),
    "no messages": post({}, "/v1/messages"),
    "no responses": post({}, "/v1/responses"),
    "hot reload": post({}, "/hot-reload"),
    "no such path": post({}, "/v2/models"),
}
STAGED: dict[str, Row] = {
    "all stages": post({"text": "ab", "times": 2}),
    "a field is missing": post({"times": 2}),
    "two fields are wrong": post({"text": 1, "times": "x"}),
    "no JSON": post(b"{"),
    "a stream and postprocess": post({"text": "a", "times": 0}),
    "binary": packed({"text": "ab"}),
    "binary and wrong": packed({"text": 1}),
}


def ask(port: int, row: Row) -> tuple[int, dict[str, str], bytes]:
    method, path, body, headers = row
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body or None, {"accept": "*/*", **headers})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, {name: value for name in KEPT if (value := response.getheader(name)) is not None}, data


@contextmanager
def ours(folder: Path) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "camelid", "serve", "--truss", str(folder), "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.environ["PYTHONPATH"].split(os.pathsep)[0]})
    try:
        until = time.monotonic() + 60
        while True:
            try:
                wait_until_ready(port)
                break
            except ConnectionRefusedError:
                if time.monotonic() > until or server.poll() is not None:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, int]]]:
    scratch = tmp_path_factory.mktemp("served")
    build(TRUSS, TRUSSES / "many", scratch / "many")
    build(TRUSS, TRUSSES / "staged", scratch / "staged")
    with (
        running(TRUSS, scratch / "many", {"COLOUR": "blue"}) as many,
        running(TRUSS, scratch / "staged", {}) as staged,
        ours(TRUSSES / "many") as our_many,
        ours(TRUSSES / "staged") as our_staged,
    ):
        wait_until_ready(many)
        wait_until_ready(staged)
        yield {"many": (many, our_many), "staged": (staged, our_staged)}


@pytest.mark.parametrize("name", MANY)
def test_ours_answers_as_truss_does(ports: dict[str, tuple[int, int]], name: str) -> None:
    theirs, own = ports["many"]
    assert ask(own, MANY[name]) == ask(theirs, MANY[name])


@pytest.mark.parametrize("name", STAGED)
def test_ours_answers_as_truss_does_through_all_stages(ports: dict[str, tuple[int, int]], name: str) -> None:
    theirs, own = ports["staged"]
    assert ask(own, STAGED[name]) == ask(theirs, STAGED[name])


def test_the_inputs_are_described_in_the_same_way(ports: dict[str, tuple[int, int]]) -> None:
    theirs, own = (json.loads(ask(port, get("/v1/models/model/schema"))[2]) for port in ports["staged"])
    assert own["input_schema"] == theirs["input_schema"]
