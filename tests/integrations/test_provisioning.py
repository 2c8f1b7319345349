"""A server is given its model: by name, of a Modelfile with a file, twice, and while it is away."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from camelid.cli.provision import command
from camelid.errors import CamelidError, NotFound, Unavailable
from camelid.integrations.provisioning import Clock, Wanted, provision

STEPS = [{"status": "pulling manifest"}, {"status": "success"}]


class Handler(BaseHTTPRequestHandler):
    """A server of models whose next answers are given, by path."""

    server: Server

    def do_GET(self) -> None:
        self.do_POST()

    def do_HEAD(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        path = "/api/blobs" if "/api/blobs/" in self.path else self.path
        is_json = body.startswith(b"{")
        self.server.seen.append((self.command, path, json.loads(body) if is_json else body))
        status, answer = self.server.answer(self.command, path)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Answers in turn; the last of a path again and again."""

    answers: dict[str, list[tuple[int, bytes]]]
    seen: list[tuple[str, str, Any]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        given = self.answers.get(f"{method} {path}") or self.answers.get(path, [(200, b"")])
        return given.pop(0) if len(given) > 1 else given[0]

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.seen]


def lines(*told: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in told)


@contextmanager
def serving(answers: dict[str, list[tuple[int, bytes]]]) -> Iterator[Server]:
    usual = {"/api/show": [(404, b""), (200, b"{}")], "/api/generate": [(200, lines({"done": True}))]}
    with Server(("127.0.0.1", 0), Handler) as server:
        server.answers, server.seen = usual | answers, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Ticks:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.time, self.sleep)


def test_a_model_is_fetched_checked_and_loaded() -> None:
    with serving({"/api/pull": [(200, lines(*STEPS))]}) as server:
        provision(server.url, Wanted("llama3.1:8b"), 60)
        assert server.paths() == ["/", "/api/show", "/api/pull", "/api/show", "/api/generate"]


def test_a_model_that_is_there_is_not_fetched_again() -> None:
    with serving({"/api/show": [(200, b"{}")]}) as server:
        provision(server.url, Wanted("llama3.1:8b", is_loaded=False), 60)
        assert server.paths() == ["/", "/api/show", "/api/show"]


def test_what_broke_off_is_tried_again_until_the_time_is_over() -> None:
    broken, ticks = lines({"status": "pulling manifest"}), Ticks()
    with serving({"/api/show": [(404, b"")], "/api/pull": [(200, broken)], "/": [(503, b""), (200, b"")]}) as server:
        with pytest.raises(Unavailable, match=r"no model after 5 s: /api/pull broke off after 'pulling manifest'"):
            provision(server.url, Wanted("m"), 5, ticks.clock())
        assert ticks.time == 5
        server.answers |= {"/api/show": [(404, b""), (200, b"{}")], "/api/pull": [(200, broken), (200, lines(*STEPS))]}
        server.answers["/api/show"].insert(0, (404, b""))
        provision(server.url, Wanted("m"), 5, ticks.clock())


def test_a_refusal_is_not_tried_again() -> None:
    with serving({"/api/pull": [(200, lines({"error": "file does not exist"}))]}) as server:
        with pytest.raises(CamelidError, match="file does not exist"):
            provision(server.url, Wanted("m"), 60, Ticks().clock())
        assert server.paths().count("/api/pull") == 1


def test_success_without_a_model_is_none() -> None:
    answers = {"/api/show": [(404, b"")], "/api/pull": [(200, lines(*STEPS))]}
    with serving(answers) as server, pytest.raises(CamelidError, match="does not have m"):
        provision(server.url, Wanted("m"), 60, Ticks().clock())


def test_files_of_a_modelfile_are_sent_unless_they_are_there(tmp_path: Path) -> None:
    weights, adapter = tmp_path / "a.gguf", tmp_path / "b.gguf"
    weights.write_bytes(b"weights")
    adapter.write_bytes(b"adapter")
    text = f"FROM {weights}\nADAPTER {adapter}\nPARAMETER stop ###\nSYSTEM Be kind."
    answers = {"HEAD /api/blobs": [(404, b""), (200, b"")], "/api/create": [(200, lines(*STEPS))]}
    with serving({**answers, "/api/show": [(200, b"{}")]}) as server:
        provision(server.url, Wanted("mine", text), 60)
        sent = [body for method, path, body in server.seen if (method, path) == ("POST", "/api/blobs")]
        (body,) = [body for _, path, body in server.seen if path == "/api/create"]
    assert len(sent) == 1  # the adapter, which comes first, was not there; the weights were
    assert (body["name"], body["system"], body["parameters"]) == ("mine", "Be kind.", {"stop": ["###"]})
    assert list(body["files"]) == ["a.gguf"]
    assert len(body["adapters"]) == 1


def test_a_file_that_is_not_here_is_named() -> None:
    with serving({}) as server:
        with pytest.raises(NotFound, match=r"FROM names /tmp/none\.gguf"):
            provision(server.url, Wanted("mine", "FROM /tmp/none.gguf"), 60)
        with pytest.raises(NotFound, match="ADAPTER names x"):
            provision(server.url, Wanted("mine", "FROM a\nADAPTER x"), 60)


def test_the_command_fills_inputs_in(tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text('{"word": "kind"}')
    text = base64.b64encode(b"FROM llama\nSYSTEM Be {inputs.word}.").decode()
    with serving({"/api/create": [(200, lines(*STEPS))], "/api/show": [(200, b"{}")]}) as server:
        arguments = ["mine", "--server", server.url, "--modelfile-base64", text, "--log-level", "error"]
        done = CliRunner().invoke(command, [*arguments, "--inputs", str(tmp_path / "inputs.json")])
        assert done.exit_code == 0, done.output
        (body,) = [body for _, path, body in server.seen if path == "/api/create"]
        assert (body["from"], body["system"]) == ("llama", "Be kind.")
        missing = CliRunner().invoke(command, arguments)
        assert "there are none" in str(missing.exception)
