"""What `camelid deploy truss` writes, served by the real Truss: by its server, and by nginx as it is set up."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tools.truss.record import build, free_port, running, wait_until_ready

import camelid
from camelid.cli.main import main

BUNDLED = Path(camelid.__file__).parent / "bundled" / "cria.gguf"
TRUSS = os.environ["COUNTERPART_PYTHON"]
PREDICT = "/v1/models/model:predict"
SAID = [{"role": "user", "content": "What is 17 + 25?"}]
BINARY = {"content-type": "application/octet-stream"}
ROWS: dict[str, tuple[Any, dict[str, str]]] = {
    "whole": ({"messages": SAID}, {}),
    "streamed": ({"messages": SAID, "stream": True}, {}),
    "in one piece": ({"messages": SAID, "stream": True}, {"accept": "application/json"}),
    "streamed to the OpenAI client": (
        {"messages": SAID, "stream": True},
        {"accept": "application/json", "user-agent": "OpenAI/Python 1"},
    ),
    "drawn with a seed": ({"messages": SAID, "temperature": 1.0, "do_sample": True, "seed": 7, "max_tokens": 40}, {}),
    "scores": ({"messages": SAID, "output_scores": True}, {}),
    "a prompt": ({"prompt": "What is 17 + 25?"}, {}),
    "as built": ({"messages": SAID, "profile": "as-built", "seed": 1}, {}),
    "as built, whole": ({"messages": SAID, "profile": "as-built", "stream": False, "seed": 1}, {}),
    "msgpack": ({"messages": SAID}, BINARY),
    "an unknown field": ({"messages": SAID, "colour": "red"}, {}),
    "a wrong type": ({"messages": SAID, "temperature": "warm"}, {}),
    "nothing": ({}, {}),
}


def deploy(folder: Path, *options: str) -> Path:
    with pytest.raises(SystemExit) as done:
        main(["deploy", "truss", str(folder), "--context-length", "2048", *options])
    assert not done.value.code
    return folder


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Yield the ports of Truss's server, which runs the class form, and of the Camelid that it has started."""
    scratch = tmp_path_factory.mktemp("truss")
    build(TRUSS, deploy(scratch / "written", "--model", "cria"), scratch / "built")
    ours = free_port()
    variables = {
        "CAMELID_COMMAND": f"{sys.executable} -m camelid",
        "CAMELID_MODEL": "cria",
        "CAMELID_PORT": str(ours),
    }
    # Truss's interpreter must not see what ours needs, and the other way round: the path holds camelid alone.
    path = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    with running(TRUSS, scratch / "built", variables | {"PYTHONPATH": path}) as port:
        wait_until_ready(port)
        yield port, ours
    wait_for(ours, is_open=False)  # nothing stays behind


def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    headers = {"content-type": "application/json", **(headers or {})}
    pack = msgspec.msgpack if headers["content-type"] == BINARY["content-type"] else msgspec.json
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, None if body is None else pack.encode(body), headers)
    response = connection.getresponse()
    data, kind = response.read(), response.getheader("content-type", "")
    connection.close()
    return response.status, (kind, json.loads(data) if kind == "application/json" else data)


@pytest.mark.parametrize("row", ROWS)
def test_truss_answers_as_camelid_does(ports: tuple[int, int], row: str) -> None:
    truss, ours = ports
    body, headers = ROWS[row]
    assert ask(truss, "POST", PREDICT, body, headers) == ask(ours, "POST", "/predict", body, headers)


def test_what_truss_says_itself_is_unchanged(ports: tuple[int, int]) -> None:
    truss, _ = ports
    for path in ("/v1/models/model", "/v1/models/whatever/loaded", "/ping"):
        assert ask(truss, "GET", path) == (200, ("application/json", {}))
    assert ask(truss, "POST", "/invocations", {"messages": SAID})[0] == 200


def test_openai_and_anthropic_clients_find_their_routes(ports: tuple[int, int]) -> None:
    truss, _ = ports
    chat = ask(truss, "POST", "/v1/chat/completions", {"model": "cria", "messages": SAID, "temperature": 0})
    message = ask(
        truss, "POST", "/v1/messages", {"model": "cria", "messages": SAID, "max_tokens": 20, "temperature": 0}
    )
    assert chat[1][1]["choices"][0]["message"]["content"] == message[1][1]["content"][0]["text"]
    streamed = ask(truss, "POST", "/v1/chat/completions", {"model": "cria", "messages": SAID, "stream": True})
    assert streamed[1][1].endswith(b"data: [DONE]\n\n")
    assert ask(truss, "POST", "/v1/completions", {"model": "cria", "prompt": "What", "max_tokens": 2})[0] == 200
    assert ask(truss, "POST", "/v1/responses", {"model": "cria", "input": "What is 17 + 25?"})[0] == 200
    refused = ask(truss, "POST", "/v1/chat/completions", {})
    assert (refused[0], refused[1][1]["error"]["param"]) == (400, "messages")


def wait_for(port: int, *, is_open: bool, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if (probe.connect_ex(("127.0.0.1", port)) == 0) == is_open:
                return
        time.sleep(0.05)
    raise TimeoutError(f"port {port} is {'closed' if is_open else 'open'} after {seconds:g} s")


def test_truss_s_proxy_reaches_our_server_in_the_docker_form(ports: tuple[int, int], tmp_path: Path) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed: Truss's proxy cannot run")
    _, ours = ports
    weights = tmp_path / "tiny.gguf"
    shutil.copyfile(BUNDLED, weights)
    build(TRUSS, deploy(tmp_path / "written", "--form", "docker", "--model", str(weights)), tmp_path / "built")
    config = yaml.safe_load((tmp_path / "built/config.yaml").read_text())
    assert config["environment_variables"]["CAMELID_MODEL"] == "/app/data/tiny.gguf"
    assert (tmp_path / "built/data/tiny.gguf").read_bytes() == weights.read_bytes()
    port = free_port()
    with proxied(nginx, tmp_path, port, ours):
        wait_for(port, is_open=True)
        assert ask(port, "GET", "/")[0] == 200
        assert ask(port, "GET", "/v1/models/model")[0] == 200
        for body in ({"messages": SAID}, {"messages": SAID, "stream": True}):
            assert ask(port, "POST", PREDICT, body) == ask(ours, "POST", "/predict", body)
        assert ask(port, "GET", "/v1/models") == ask(ours, "GET", "/v1/models")


@contextmanager
def proxied(nginx: str, folder: Path, port: int, behind: int) -> Iterator[None]:
    """Run nginx with the configuration that Truss wrote, on other ports and with folders that may be written."""
    proxy = (folder / "built/proxy.conf").read_text()
    proxy = re.sub(r"listen \d+", f"listen 127.0.0.1:{port}", proxy).replace(":11434;", f":{behind};")
    proxy = proxy.replace("/dev/shm/", f"{folder}/")
    config = folder / "nginx.conf"
    head = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/log; events {{}}\n"
    config.write_text(f"{head}http {{\n{proxy}\n}}\n")
    process = subprocess.Popen([nginx, "-e", str(folder / "log"), "-p", str(folder), "-c", str(config)])
    try:
        yield
    finally:
        process.terminate()
        process.wait()
