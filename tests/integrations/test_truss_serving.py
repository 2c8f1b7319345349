"""A user's Truss folder, served: what a crash, a change and a bad folder do. Answers are compared with Truss's own
beside it (tests/counterparts/truss).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from camelid.errors import CamelidError, InvalidRequest, NotFound, Unavailable
from camelid.integrations.truss import host as hosting
from camelid.integrations.truss.folder import Secrets, read_folder
from camelid.integrations.truss.front import FOLDER_LIMITS, Front
from camelid.integrations.truss.host import Host
from camelid.integrations.truss.methods import methods_of
from camelid.integrations.truss.values import read, write
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ServerSettings

MANY = Path(__file__).parents[1] / "trusses" / "many"


@asynccontextmanager
async def served(
    folder: Path, settings: ServerSettings | None = None
) -> AsyncIterator[tuple[httpx2.AsyncClient, Host]]:
    host, lifecycle = Host(folder, drain_s=5.0), Lifecycle()
    app = Front(host, lifecycle, FOLDER_LIMITS).application(settings or ServerSettings())
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:11434", timeout=20) as client:
        await host.start()
        lifecycle.is_started = True
        try:
            yield client, host
        finally:
            await host.close()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MANY, tmp_path / "many"))


def change(folder: Path, old: str, new: str) -> None:
    file = folder / "model" / "model.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def predict(client: httpx2.AsyncClient, **body: Any) -> httpx2.Response:
    return await client.post("/predict", json=body)


def test_a_change_drops_no_call_and_a_broken_change_changes_nothing(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "WATCH_S", 0.02)

    async def script() -> None:
        gate = copied.parent / "gate"
        async with served(copied) as (client, host):
            first = host.child
            watching = asyncio.ensure_future(host.watch())
            running = asyncio.ensure_future(predict(client, do="wait", file=str(gate)))
            while first is None or first.num_running == 0:
                await asyncio.sleep(0.01)
            change(copied, '"waited"', '"waited anew"')
            while host.child is first:
                await asyncio.sleep(0.01)
            gate.touch()
            assert (await running).json() == "waited"  # by the class that it was asked of
            assert (await predict(client, do="wait", file=str(gate))).json() == "waited anew"
            watching.cancel()
            change(copied, "class Model:", "class Model(:")
            refused = await client.post("/hot-reload")
            assert refused.status_code == 422
            assert "could not be loaded" in refused.json()["error"]
            assert (await predict(client, do="wait", file=str(gate))).json() == "waited anew"

    asyncio.run(script())


def test_a_crash_costs_its_own_calls_and_the_next_are_answered_by_a_new_process() -> None:
    async def script() -> None:
        async with served(MANY) as (client, host):
            first = host.child
            died = await predict(client, do="die")
            assert (died.status_code, died.json()) == (500, {"error": "Internal Server Error (in model/chainlet)."})
            assert died.headers["x-baseten-error-code"] == "600"
            while host.child in (None, first):
                refused = await client.get("/v1/models/model")
                assert refused.status_code in (200, 500, 503)
                await asyncio.sleep(0.02)
            assert (await predict(client, do="echo", x=1)).json() == {"do": "echo", "x": 1}
            # at most two calls are in `predict` at a time, as the folder says
            most = await asyncio.gather(*(predict(client, do="most") for _ in range(8)))
            assert max(one.json() for one in most) == 2
            # a stream that fails is cut, so that nobody takes a part for the whole
            with pytest.raises(httpx2.TransportError):
                await _streamed(host)

    async def _streamed(host: Host) -> None:
        assert host.child is not None
        body = {"do": "fail_in_stream"}
        async with host.child.client.stream("POST", "/v1/models/model:predict", json=body) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_raw():
                pass

    asyncio.run(script())


def test_a_class_that_cannot_be_loaded_is_told_at_the_start(copied: Path) -> None:
    change(copied, "self.is_loaded = True", "raise OSError('no weights')")

    async def script() -> None:
        host = Host(copied, drain_s=0.0)
        try:
            with pytest.raises(Unavailable, match=r"model\.py could not be loaded: its process ended with status 1"):
                await host.start()
        finally:
            await host.close()

    asyncio.run(script())


def test_strangers_are_refused_before_anything_reaches_the_class() -> None:
    async def script() -> None:
        host = Host(MANY, 0.0)
        app = Front(host, Lifecycle(), FOLDER_LIMITS).application(ServerSettings(api_key=("k",)))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost:11434") as client:
            assert (await predict(client, do="echo")).status_code == 401
            key = {"authorization": "Api-Key k"}
            waiting = await client.post("/predict", json={}, headers=key)
            assert (waiting.status_code, waiting.json()) == (503, {"error": "Model with name model is not ready."})
            assert (await client.get("/livez", headers=key)).json() is True
            cross = await client.post("/predict", json={}, headers={**key, "origin": "http://evil.example"})
            assert cross.status_code == 403
        await host.close()

    asyncio.run(script())


def test_folders_that_cannot_be_served_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no Truss folder"):
        read_folder(tmp_path)
    config = tmp_path / "config.yaml"
    for text, told in (
        ("a: [", "not valid YAML"),
        ("- a", "names and values"),
        ("docker_server: {start_command: x}", "no Model class"),
        ("runtime: {predict_concurrency: 0}", "at least 1, got 0|is not there"),
        ("model_name: x", "model.py is not there"),
    ):
        config.write_text(text)
        with pytest.raises(CamelidError, match=told):
            read_folder(tmp_path)


def test_secrets_are_read_where_truss_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets({"token": None, "other": "usual"})
    assert secrets["other"] == "usual"
    with pytest.raises(KeyError, match="TRUSS_SECRET_token would set it"):
        secrets["token"]
    monkeypatch.setenv("TRUSS_SECRET_token", "given")
    assert secrets["token"] == "given"
    with pytest.raises(KeyError, match="not declared"):
        secrets["third"]


def test_a_class_that_breaks_the_contract_is_refused_with_its_method() -> None:
    class Three:
        def predict(self, a, b, c):  # type: ignore[no-untyped-def]
            pass

    class NoPredict:
        pass

    for model, told in ((Three(), "`predict` must take at most"), (NoPredict(), "must have `predict`")):
        with pytest.raises(InvalidRequest, match=told):
            methods_of(model)


def test_msgpack_keeps_arrays_and_refuses_those_that_would_run_code() -> None:
    value = {"x": np.arange(4, dtype=np.int16).reshape(2, 2), "y": [np.float64(1.5), {"z": None}]}
    back = read(write(value, is_binary=True), None, is_binary=True)
    assert back["x"].dtype == np.int16
    assert back["x"].tolist() == [[0, 1], [2, 3]]
    assert back["y"] == [1.5, {"z": None}]
    import msgspec

    objects = msgspec.msgpack.encode({b"nd": True, b"type": "|O", b"kind": b"O", b"shape": (1,), b"data": b"x"})
    for body in (objects, b"\xc1", b"\x91" * 100):
        with pytest.raises(InvalidRequest, match="Invalid payload"):
            read(body, None, is_binary=True)
