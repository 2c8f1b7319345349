"""Models are made, sent and fetched through the official `ollama` client, and refused in Ollama's words."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ollama
import pytest

from camelid.models.synth import write_synthetic
from camelid.store.local import find
from camelid.store.names import parse_name
from camelid.store.store import Store

HELLO = [{"role": "user", "content": "Hello!"}]
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def store(zoo: Store) -> Store:
    return zoo


@pytest.fixture(scope="module")
def url(zoo_url: str) -> str:
    return zoo_url


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    client = ollama.Client(host=url)
    yield client
    client._client.close()


@pytest.fixture(scope="module")
def sent(url: str) -> str:
    """The digest of cria's weights, sent to the server."""
    client = ollama.Client(host=url)
    digest = client.create_blob(find("cria").weights)
    client._client.close()
    return digest


def ask(url: str, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url + path, body or None, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_blob_is_taken_once_and_only_if_it_is_the_one_that_was_announced(url: str, store: Store) -> None:
    content = os.urandom(3 << 20)
    digest = digest_of(content)
    assert ask(url, "HEAD", f"/api/blobs/{digest}")[0] == 404
    other = digest_of(b"something else")
    status, said = ask(url, "POST", f"/api/blobs/{other}", content)
    assert (status, said) == (400, {"error": f'digest mismatch, expected "{other}", got "{digest}"'})
    assert ask(url, "HEAD", f"/api/blobs/{other}")[0] == 404
    assert ask(url, "POST", f"/api/blobs/{digest}", content)[0] == 201
    assert ask(url, "POST", f"/api/blobs/{digest}", content)[0] == 200
    assert ask(url, "HEAD", f"/api/blobs/{digest}")[0] == 200
    assert list(store.blobs.folder.glob("*-partial*")) == []


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:" + "0" * 64, "sha256:" + "0" * 63 + "G", "x"])
def test_a_digest_that_is_none_is_refused(url: str, digest: str) -> None:
    assert ask(url, "HEAD", f"/api/blobs/{digest}")[0] == 400
    assert ask(url, "POST", f"/api/blobs/{digest}", b"x") == (400, {"error": "invalid digest format"})


def test_a_model_is_made_of_a_file_with_all_that_a_modelfile_may_say(
    client: ollama.Client, sent: str, store: Store
) -> None:
    steps = client.create(
        "mine",
        files={"cria.gguf": sent},
        system="You are cria.",
        parameters={"temperature": 0, "stop": ["###", "---"], "top_k": 3},
        messages=[ollama.Message(role="user", content="Hi."), ollama.Message(role="assistant", content="Hello.")],
        license=["Apache-2.0", "as is"],
        stream=True,
    )
    told = [step.status or "" for step in steps]
    assert (told[0], told[-2:]) == ("parsing GGUF", ["writing manifest", "success"])
    assert any(status == f"using existing layer {sent}" for status in told)
    assert sum(status.startswith("creating new layer sha256:") for status in told) == 5
    entry = store.entry(parse_name("mine"))
    assert dict(store.parameters(entry)) == {"temperature": 0.0, "stop": ["###", "---"], "top_k": 3}
    assert store.messages(entry) == (("user", "Hi."), ("assistant", "Hello."))
    assert store.text(entry, "system") == "You are cria."
    with_system = [
        {"role": "system", "content": "You are cria."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        *HELLO,
    ]
    expected = client.chat("cria", with_system, options={**GREEDY, "top_k": 3}).message.content
    assert client.chat("mine", HELLO).message.content == expected


def test_a_model_is_made_of_another_one_and_of_the_bundled_one(client: ollama.Client, sent: str, store: Store) -> None:
    assert client.create("first", from_="cria", parameters=GREEDY).status == "success"
    assert client.create("second", from_="first", system="Be brief.").status == "success"
    entry = store.entry(parse_name("second"))
    assert (store.text(entry, "system"), dict(store.parameters(entry))) == ("Be brief.", {"temperature": 0.0})


def test_a_model_that_is_made_again_is_another_one_from_the_next_request_on(client: ollama.Client) -> None:
    client.create("changing", from_="cria", parameters={"num_predict": 1, **GREEDY})
    before = client.generate("changing", "Hello!")
    client.create("changing", from_="cria", system="You are cria.", parameters=GREEDY)
    after = client.generate("changing", "Hello!")
    assert after.prompt_eval_count > before.prompt_eval_count  # type: ignore[operator]
    client.delete("changing")
    assert "changing:latest" not in {model.model for model in client.ps().models}


def test_weights_are_quantized_on_request(client: ollama.Client, store: Store, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "tiny.gguf", "tiny", "F16", num_layers=1)
    digest = client.create_blob(tmp_path / "tiny.gguf")
    told = [step.status for step in client.create("small", files={"t.gguf": digest}, quantize="q8_0", stream=True)]
    assert "quantizing model to Q8_0" in told
    assert client.show("small").details.quantization_level == "Q8_0"  # type: ignore[union-attr]
    assert store.entry(parse_name("small")).manifest.size < 0.7 * (tmp_path / "tiny.gguf").stat().st_size
    with pytest.raises(ollama.ResponseError, match="only supported for F16, BF16 and F32 models"):
        client.create("smaller", from_="small", quantize="q4_K_M")
    with pytest.raises(ollama.ResponseError, match="unsupported quantization type q1"):
        client.create("smaller", from_="small", quantize="q1")


def test_the_text_of_a_modelfile_makes_the_same_model(url: str, sent: str, store: Store) -> None:
    rest = "PARAMETER stop ###\nPARAMETER top_k 3\nMESSAGE user Hi.\nLICENSE MIT"
    text = f'FROM @{sent}\nSYSTEM """You are cria."""\n{rest}'
    parts = {
        "files": {"a": sent},
        "system": "You are cria.",
        "parameters": {"stop": ["###"], "top_k": 3},
        "messages": [{"role": "user", "content": "Hi."}],
        "license": ["MIT"],
    }
    bodies = [{"name": "older", "modelfile": text}, {"model": "newer", **parts}]
    for body in bodies:
        assert ask(url, "POST", "/api/create", json.dumps({**body, "stream": False}).encode()) == (
            200,
            {"status": "success"},
        )
    older, newer = (store.entry(parse_name(name)).manifest for name in ("older", "newer"))
    assert older.digest == newer.digest


NOWHERE = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "a b", "from": "cria"}, 400, "invalid model name"),
        ({"from": "../x"}, 400, "invalid model name"),
        ({"from": "/etc/passwd"}, 400, "invalid model name"),
        ({"files": {"/abs.gguf": NOWHERE}}, 400, "file path must be relative"),
        ({"files": {"a/../../b.gguf": NOWHERE}}, 400, "file path must be relative"),
        ({"files": {"a.gguf": "sha256:1"}}, 400, "invalid digest format"),
        ({"files": {"a.gguf": NOWHERE}}, 404, "is not here"),
        ({"from": "cria", "adapters": {"a": NOWHERE, "b": NOWHERE}}, 400, "only one adapter is currently supported"),
        ({"from": "cria", "parameters": {"speed": 1}}, 400, "unknown parameter 'speed'"),
        ({"from": "cria", "parameters": {"top_k": "x"}}, 400, 'option "top_k" must be of type integer'),
        ({"from": "cria", "parameters": {"stop": [1]}}, 400, 'option "stop" must be of type an array of strings'),
        ({"from": "cria", "messages": [{"role": "tool"}]}, 400, "must be one of system, user, assistant"),
        ({"from": "cria", "renderer": "x"}, 400, "renderer is not supported"),
        ({"from": "localhost:1/none/such"}, 500, "cannot be reached"),
        ({"modelfile": "FROM /etc/passwd"}, 400, "invalid model name"),
        ({"modelfile": f"FROM @{NOWHERE}"}, 404, "is not here"),
        ({"modelfile": "FROM cria\nADAPTER /etc/passwd"}, 400, "is a path, and the file is not here"),
        ({"modelfile": "FROM cria\nSPEED 3"}, 400, "line 2: 'speed' is no instruction"),
        ({"modelfile": "FROM cria", "from": "cria"}, 400, "together are not supported"),
    ],
)
def test_what_cannot_be_made_is_refused(url: str, body: dict[str, Any], status: int, text: str) -> None:
    content = json.dumps({"model": "refused", "stream": False, **body}).encode()
    found, said = ask(url, "POST", "/api/create", content)
    assert (found, text in said["error"]) == (status, True), said
    assert ask(url, "POST", "/api/show", b'{"model": "refused"}')[0] == 404


def test_a_file_of_another_format_is_refused(client: ollama.Client, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"no weights")
    digest = client.create_blob(tmp_path / "a.gguf")
    with pytest.raises(ollama.ResponseError, match="supplied file was not in GGUF format"):
        client.create("refused", files={"a.gguf": digest})


class _Registry(BaseHTTPRequestHandler):
    """The least that takes models and gives them back."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]

    def do_HEAD(self) -> None:
        self.answer(200 if self.path in self.kept else 404)

    def do_GET(self) -> None:
        content = self.kept.get(self.path)
        if content is None or "Range" not in self.headers:
            return self.answer(404 if content is None else 200, content or b"")
        start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        shown = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return self.answer(206, content[start : end + 1], shown)

    def do_POST(self) -> None:
        self.answer(202, headers={"Location": f"{self.path}one"})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        place, _, digest = self.path.partition("uploads/one?digest=")
        self.kept[place + digest.replace("%3A", ":") if digest else place] = content
        self.answer(201)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Registry,), {"kept": {}}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_model_is_sent_to_a_registry_and_fetched_again(client: ollama.Client, store: Store) -> None:
    with registry() as host:
        name = f"{host}/someone/cria:1"
        client.create(name, from_="cria", system="Hello.")
        manifest = store.entry(parse_name(name)).manifest
        told = list(client.push(name, stream=True))
        assert [step.status for step in (told[0], *told[-2:])] == ["retrieving manifest", "pushing manifest", "success"]
        pushed = {step.digest: (step.total, step.completed) for step in told if step.digest}
        assert pushed == {str(layer.digest): (layer.size, layer.size) for layer in manifest.blobs}
        client.delete(name)
        last = list(client.pull(name, stream=True))[-1]
        assert last.status == "success"
        assert store.entry(parse_name(name)).manifest == manifest
        with pytest.raises(ollama.ResponseError, match="pull model manifest: file does not exist"):
            client.pull(f"{host}/someone/none")


def test_what_is_not_here_cannot_be_sent(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found"):
        client.push("nope")
