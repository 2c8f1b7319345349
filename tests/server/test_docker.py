"""Docker Model Runner's API: its list, its paths for what others answer, pulls and pushes with its two encodings."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_runtime import FakeRuntime, model_status
from tests.store.test_docker_registry import REGISTRY, host  # noqa: F401 - a fixture

from camelid.server.app import create_app
from camelid.server.docker.aliases import answered_at
from camelid.server.docker.models import dockers_name
from camelid.server.docker.progress import JSON, TEXT, Progress, written
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ServerSettings
from camelid.store.blobs import digest_of
from camelid.store.making import create
from camelid.store.manifests import Layer
from camelid.store.modelfile import Modelfile
from camelid.store.names import parse_name
from camelid.store.store import Store

SAID = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with cria as `ai/cria:small`, which is also called `other:latest`."""
    found = Store(tmp_path / "models")
    create(found, parse_name("ai/cria:small"), Modelfile("cria"), tmp_path)
    found.copy(parse_name("ai/cria:small"), parse_name("other"))
    return found


@asynccontextmanager
async def asking(store: Store, runtime: FakeRuntime | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    lifecycle = Lifecycle()
    lifecycle.is_started = True
    app = create_app(
        runtime or FakeRuntime(),
        ServerSettings(),
        default_model="tiny",
        lifecycle=lifecycle,
        models=str(store.folder),
    )
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:12434", timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("/engines/v1/chat/completions", "/v1/chat/completions"),
        ("/engines/llama.cpp/v1/embeddings", "/v1/embeddings"),
        ("/engines/vllm/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/exp/vDD4.40/engines/v1/completions", "/v1/completions"),
        ("/engines/llama.cpp/v1/models", "/engines/v1/models"),
        ("/engines/v1/models/ai/cria:small", "/engines/v1/models/ai/cria:small"),
        ("/engines/llama.cpp/_configure", "/engines/_configure"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/responses", "/v1/responses"),
        ("/rerank", "/v1/rerank"),
        ("/exp/vDD4.40/models/create", "/models/create"),
        ("/engines/tensorflow/v1/completions", "/engines/tensorflow/v1/completions"),
        ("/v1/models", "/v1/models"),
        ("/models", "/models"),
    ],
)
def test_docker_s_paths_lead_to_what_answers_them(asked: str, answered: str) -> None:
    assert answered_at(asked) == answered


def test_answers_come_through_docker_s_paths_with_the_errors_of_their_own_dialect(store: Store) -> None:
    async def script() -> None:
        async with asking(store) as client:
            chat = await client.post("/engines/llama.cpp/v1/chat/completions", json=SAID)
            assert chat.json()["choices"][0]["message"]["content"] == "Hello"
            refused = await client.post("/engines/v1/chat/completions", json={})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
            assert (await client.post("/engines/tensorflow/v1/completions", json=SAID)).status_code == 404
            assert set((await client.get("/version")).json()) == {"version"}

    asyncio.run(script())


def test_a_model_is_found_by_every_reference_that_docker_has(store: Store) -> None:
    digest = store.entry(parse_name("other")).manifest.digest

    async def script() -> None:
        async with asking(store) as client:
            (listed,) = (await client.get("/models")).json()
            assert listed["id"] == str(digest)
            assert sorted(listed["tags"]) == ["docker.io/ai/cria:small", "other:latest"]
            assert listed["config"]["architecture"] == "llama"
            assert listed["config"]["context_size"] == 2048
            for reference in ("ai/cria:small", "cria:small", "AI/Cria:small", "docker.io/ai/cria:small", "other"):
                assert (await client.get(f"/models/{reference}")).json()["id"] == str(digest), reference
            for reference in (str(digest), digest.hex, digest.hex[:12]):
                assert (await client.get(f"/models/{reference}")).json()["id"] == str(digest), reference
            missing = await client.get("/models/ai/absent")
            assert (missing.status_code, missing.text) == (404, "model not found: ai/absent\n")
            assert missing.headers["content-type"].startswith("text/plain")
            (card,) = (await client.get("/engines/v1/models")).json()["data"]
            assert (card["owned_by"], card["dmr"]["context_window"]) == ("docker", 2048)
            assert (await client.get(f"/engines/llama.cpp/v1/models/{card['id']}")).json() == card

    asyncio.run(script())


def test_names_are_added_and_removed_and_the_last_one_takes_the_model_along(store: Store) -> None:
    digest = store.entry(parse_name("other")).manifest.digest

    async def script() -> None:
        async with asking(store) as client:
            tagged = await client.post("/models/ai/cria:small/tag", params={"repo": "ai/third", "tag": "V1"})
            assert (tagged.status_code, tagged.json()["target"]) == (201, "docker.io/ai/third:V1")
            assert (await client.post("/models/cria:small/tag")).status_code == 400
            several = await client.delete(f"/models/{digest}")
            assert several.status_code == 409
            one = await client.delete("/models/ai/third:V1")
            assert one.json() == [{"Untagged": "docker.io/ai/third:V1"}]
            rest = (await client.delete(f"/models/{digest.hex[:12]}", params={"force": "true"})).json()
            assert sorted(map(str, rest)) == sorted(
                map(
                    str,
                    [{"Untagged": "docker.io/ai/cria:small"}, {"Untagged": "other:latest"}, {"Deleted": str(digest)}],
                )
            )
            assert (await client.get("/models")).json() == []
            assert (await client.get("/engines/df")).json()["models_disk_usage"] == 0

    asyncio.run(script())


def test_loaded_models_are_listed_configured_and_let_go(store: Store) -> None:
    runtime = FakeRuntime(models=[model_status("tiny"), model_status("ai/cria:small")])

    async def script() -> None:
        async with asking(store, runtime) as client:
            assert [one["model_name"] for one in (await client.get("/engines/ps")).json()] == ["tiny", "ai/cria:small"]
            kept = await client.post("/engines/_configure", json={"model": "cria:small", "keep_alive": "10m"})
            assert (kept.status_code, runtime.kept[-1]) == (202, ("ai/cria:small", 600.0))
            for body, told in (
                ({"model": "tiny", "context-size": 4096}, "context-size must be at most 128"),
                ({"model": "tiny", "runtime-flags": ["--x"]}, "runtime-flags cannot be set"),
                ({"model": "tiny", "keep_alive": "soon"}, "keep_alive"),
                ({}, "model is required"),
            ):
                refused = await client.post("/engines/llama.cpp/_configure", json=body)
                assert refused.status_code == 400
                assert told in refused.text
            gone = await client.post("/engines/unload", json={"models": ["cria:small"]})
            assert (gone.json(), runtime.kept[-1]) == ({"unloaded_runners": 1}, ("ai/cria:small", 0.0))
            assert (await client.post("/engines/unload", json={"all": True})).json() == {"unloaded_runners": 2}
            assert list((await client.get("/engines/status")).json()) == ["llama.cpp"]

    asyncio.run(script())


@pytest.mark.skipif(REGISTRY is None, reason="docker-registry is not in the PATH (apt install docker-registry)")
def test_a_model_goes_to_a_real_registry_and_comes_back(store: Store, tmp_path: Path, host: str) -> None:  # noqa: F811
    digest = store.entry(parse_name("other")).manifest.digest
    name = f"{host}/ai/round:trip"

    def lines(answer: httpx2.Response) -> list[dict[str, Any]]:
        return [json.loads(line) for line in answer.text.splitlines()]

    async def script() -> None:
        async with asking(store) as client:
            repo, _, tag = name.rpartition(":")
            assert (await client.post("/models/other/tag", params={"repo": repo, "tag": tag})).status_code == 201
            pushed = await client.post(f"/models/{name}/push", headers={"accept": "application/json"})
            assert pushed.headers["content-type"] == JSON
            assert lines(pushed)[0]["layer"]["id"] == "uploading"
            assert lines(pushed)[-1] == {"type": "success", "message": "Model pushed successfully", "mode": "push"}
        async with asking(Store(tmp_path / "empty")) as client:
            remote = await client.get(f"/models/{name}", params={"remote": "true"})
            assert remote.json()["id"] == str(digest)
            pulled = await client.post("/models/create", json={"from": name})
            assert pulled.headers["content-type"].startswith(TEXT)
            told = [json.loads(html.unescape(line)) for line in pulled.text.splitlines()]
            assert '"' not in pulled.text
            assert told[-1] == {"type": "success", "message": "Model pulled successfully", "mode": "pull"}
            layers = {one["layer"]["id"]: one["layer"]["size"] for one in told[:-1]}
            assert told[-2]["total"] == sum(layers.values())
            again = await client.post("/models/create", json={"from": name}, headers={"accept": JSON})
            assert any(line["message"].startswith("Using cached model: ") for line in lines(again))
            assert (await client.get(f"/models/{name}")).json()["id"] == str(digest)
            absent = await client.post("/models/create", json={"from": f"{host}/ai/absent"})
            assert absent.status_code == 404
            assert (await client.post("/models/create", json={"from": "///"})).status_code == 400

    asyncio.run(script())


def test_progress_is_told_at_most_ten_times_a_second_and_at_each_end() -> None:
    lines: list[dict[str, Any]] = []
    progress = Progress(lines.append, "pull", clock=lambda: 0.0)
    watcher = progress.watcher()
    layer = Layer("t", digest_of(b"a"), 300)
    watcher.begin(layer)
    for _ in range(3):
        watcher.done(100)
    assert [line["layer"]["current"] for line in lines] == [100, 300]
    assert lines[0]["message"] == "Downloaded: 0.00 MB"


def test_both_encodings_say_the_same() -> None:
    line = {"type": "error", "message": 'a "quote" & <b>', "mode": "pull"}
    assert json.loads(written(line, JSON)) == line
    escaped = written(line, TEXT)
    assert b'"' not in escaped
    assert b"<" not in escaped
    assert json.loads(html.unescape(escaped.decode())) == line


def test_docker_names_get_docker_s_defaults() -> None:
    assert str(dockers_name("llama3.1")) == "ai/llama3.1:latest"
    assert str(dockers_name("Org/Model:Q4_K_M")) == "docker.io/org/model:Q4_K_M"
    assert dockers_name("localhost:5000/a/b").is_plain
    assert not dockers_name("example.com/a/b").is_plain
