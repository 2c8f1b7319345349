"""Adapters over HTTP: named in every dialect, listed, loaded and unloaded while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.lora import random_pairs, spec_of, write_gguf_lora

from camelid.runtime.runtime import Runtime
from camelid.server.app import create_app
from camelid.server.lifecycle import Lifecycle
from camelid.settings import KeepSettings, ModelSettings, ServerSettings
from camelid.store.local import find

HI = [{"role": "user", "content": "What is 17 + 25?"}]
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with adapters of cria in a folder of their own, and a secret beside it."""
    path = tmp_path_factory.mktemp("served")
    (path / "lora").mkdir()
    spec = spec_of(find("cria").weights)
    for seed, name in enumerate(("one", "two")):
        write_gguf_lora(path / "lora" / f"{name}.gguf", random_pairs(spec, seed, spread=0.2))
    write_gguf_lora(path / "secret.gguf", random_pairs(spec, 9))
    return path


class Server:
    """An application in this process, with cria and the adapter `one`."""

    def __init__(self, folder: Path, *, may_load: bool = True) -> None:
        given = (("one", str(folder / "lora" / "one.gguf")),)
        settings = ModelSettings(device="cpu", threads=1, context_length=256, adapter=given, models=str(folder / "no"))
        self.runtime = Runtime(settings, keep=KeepSettings(), in_process=True)
        lifecycle = Lifecycle()
        lifecycle.is_started = True
        own = ServerSettings(alias=(("gpt-4", "cria"),), adapter_folder=str(folder / "lora") if may_load else None)
        app = create_app(self.runtime, own, default_model="cria", lifecycle=lifecycle, models=settings.models)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://localhost:11434")

    async def __aenter__(self) -> Server:
        await self.runtime.load("cria")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.aclose()
        await self.runtime.close()

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        return await self.client.post(path, json=body)

    async def answers(self, model: str) -> list[str]:
        """Return what each dialect answers."""
        greedy: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": 6}
        openai = await self.post("/v1/chat/completions", messages=HI, **greedy)
        anthropic = await self.post("/v1/messages", messages=HI, **greedy)
        options = {"temperature": 0, "num_predict": 6}
        ollama = await self.post("/api/chat", model=model, messages=HI, stream=False, options=options)
        assert openai.json()["model"] == ollama.json()["model"] == model
        return [
            openai.json()["choices"][0]["message"]["content"],
            anthropic.json()["content"][0]["text"],
            ollama.json()["message"]["content"],
        ]

    async def listed(self) -> list[list[str]]:
        models = (await self.client.get("/v1/models")).json()["data"]
        tags = (await self.client.get("/api/tags")).json()["models"]
        return [[card["id"] for card in models], [tag["name"] for tag in tags]]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 120))


def test_adapters_are_named_and_listed_in_every_dialect(folder: Path) -> None:
    async def go() -> None:
        async with Server(folder) as server:
            plain, one = await server.answers("cria"), await server.answers("cria:one")
            assert len(set(plain)) == len(set(one)) == 1
            assert plain[0] != one[0]
            assert await server.answers("gpt-4:one") == one
            assert await server.listed() == [["cria", "gpt-4", "cria:one"], ["cria", "cria:one"]]
            card = (await server.client.get("/v1/models/cria:one")).json()
            assert (card["id"], card["parent"]) == ("cria:one", "cria")
            shown = [(await server.post("/api/show", model=name)).json() for name in ("cria", "cria:one")]
            assert shown[0] == shown[1]
            assert (await server.post("/v1/chat/completions", model="cria:two", messages=HI)).status_code == 404

    run(go())


def test_adapters_come_and_go_while_the_server_runs(folder: Path) -> None:
    async def go() -> None:
        async with Server(folder) as server:
            before = await server.answers("cria:one")
            loaded = await server.post(LOAD, lora_name="two", lora_path="two.gguf")
            assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'two' added successfully.")
            again = await server.post(LOAD, lora_name="two", lora_path="two.gguf", model="gpt-4")
            assert (again.status_code, again.json()["error"]["param"]) == (400, "lora_name")
            two = await server.answers("cria:two")
            assert two != before
            absolute = str(folder / "lora" / "one.gguf")
            await server.post(LOAD, lora_name="two", lora_path=absolute, load_inplace=True)
            assert await server.answers("cria:two") == before
            gone = await server.post(UNLOAD, lora_name="two")
            assert (gone.status_code, gone.text) == (200, "Success: LoRA adapter 'two' removed successfully.")
            assert (await server.post(UNLOAD, lora_name="two")).status_code == 404
            assert (await server.listed())[0] == ["cria", "gpt-4", "cria:one"]

    run(go())


@pytest.mark.parametrize("path", ["../secret.gguf", "/etc/passwd", ".", "", "lora/../../secret.gguf", "a\0b"])
def test_only_what_lies_in_the_folder_can_be_loaded(folder: Path, path: str) -> None:
    async def go() -> None:
        async with Server(folder) as server:
            refused = await server.post(LOAD, lora_name="x", lora_path=path)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lora_path")

    run(go())


def test_without_a_folder_nothing_is_loaded(folder: Path) -> None:
    async def go() -> None:
        async with Server(folder, may_load=False) as server:
            for refused in (
                await server.post(LOAD, lora_name="two", lora_path="two.gguf"),
                await server.post(UNLOAD, lora_name="one"),
            ):
                assert refused.status_code == 400
                assert "--adapter-folder" in refused.json()["error"]["message"]

    run(go())
