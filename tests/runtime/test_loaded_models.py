"""Models that come when asked for and leave when their time is over. The clock is a value, engines are fake."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from camelid.errors import InvalidSetting, NotFound, OutOfMemory, Overloaded
from camelid.runtime.adapters import ModelAdapters
from camelid.runtime.loaded_models import LoadedModels
from camelid.runtime.model import Description, LoadedModel
from camelid.settings import KeepSettings, ModelSettings
from camelid.store.local import find
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import parse_name
from camelid.store.store import Store

_T = TypeVar("_T")
USUAL = KeepSettings()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A store with cria under the names a, b and c."""
    store, weights = Store(tmp_path / "models"), find("cria").weights
    layer = Layer(f"{OLLAMA_LAYER}model", store.blobs.add_file(weights), weights.stat().st_size)
    config = Layer("application/vnd.docker.container.image.v1+json", store.blobs.add(b"{}"), 2)
    for name in ("a", "b", "c"):
        store.manifests.write(parse_name(name), write_manifest(DOCKER_MANIFEST, config, (layer,)))
    return str(store.folder)


class _Quiet:
    """Stands in for an engine and a text side: only its end is noted."""

    def __init__(self, closed: list[str], name: str) -> None:
        self.backend = "fake"
        self._closed, self._name = closed, name
        self.template = self

    async def close(self) -> None:
        self._closed.append(self._name)


class _Template:
    def close(self) -> None:
        pass


@dataclass
class Bench:
    """Loaded models over fake engines, with what was opened and closed, and a clock to be set."""

    folder: str
    keep: KeepSettings | None = USUAL
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    now_s: float = 0.0
    may_open: asyncio.Event | None = None

    def models(self, max_waiting: int = 4, context_length: int | None = None) -> LoadedModels:
        settings = ModelSettings(
            device="reference", models=self.folder, max_waiting=max_waiting, context_length=context_length
        )
        return LoadedModels(settings, self.keep, self.open, lambda: self.now_s)

    async def open(self, description: Description) -> LoadedModel:
        if self.may_open is not None:
            await self.may_open.wait()
        name = description.files.name
        self.opened.append(name)
        text = cast("Any", type("Text", (), {"template": _Template()})())
        engine = cast("Any", _Quiet(self.closed, name))
        return LoadedModel(description, text, engine, ModelAdapters(engine, description.adapters))


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def names(models: LoadedModels) -> list[str]:
    return [status.name for status in models.statuses()]


def test_a_model_comes_when_it_is_asked_for_once_for_all_its_names(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder)
        models = bench.models()
        found = await asyncio.gather(*(models.ready(name) for name in ("a", "a", "a:latest", "A")))
        assert len({id(model) for model in found}) == 1
        assert bench.opened == names(models) == ["a:latest"]
        await models.close()

    run(go())


def test_a_model_leaves_when_its_time_is_over_and_comes_again(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder)
        models = bench.models()
        async with models.use("a"):
            bench.now_s = 1000.0
            await models.unload_due()
            assert names(models) == ["a:latest"]  # in use, however long
        bench.now_s = 1299.0
        await models.unload_due()
        assert names(models) == ["a:latest"]
        bench.now_s = 1300.0
        await models.unload_due()
        assert (names(models), bench.closed) == ([], ["a:latest"])
        async with models.use("a"):
            assert bench.opened == ["a:latest", "a:latest"]
        await models.close()

    run(go())


def test_what_an_operator_loaded_stays_unless_it_was_said_otherwise_and_is_found_again_by_its_name(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder)
        models = bench.models()
        path = str(find("cria").weights)
        own = (await models.load(path)).name
        (status,) = models.statuses()
        assert status.expires_at is None
        bench.now_s = 1e9
        await models.unload_due()
        assert names(models) == [own]
        await models.release(own)
        assert names(models) == []
        assert (await models.ready(own)).description.files.weights == Path(path)
        await models.close()

    run(go())


def test_the_timer_unloads_without_being_told(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder, KeepSettings(keep_alive=0.0))
        models = bench.models()
        async with models.use("a"):
            pass
        while models.all():
            await asyncio.sleep(0)
        await models.close()
        assert bench.closed == ["a:latest"]

    run(go())


def test_released_in_use_a_model_leaves_when_its_request_has_ended(folder: str) -> None:
    async def go() -> None:
        models = Bench(folder).models()
        async with models.use("a"):
            await models.release("a")
            assert names(models) == ["a:latest"]
        await models.unload_due()
        assert names(models) == []
        await models.close()

    run(go())


def test_the_model_unused_for_longest_makes_room_for_the_next(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder, KeepSettings(max_loaded_models=2))
        models = bench.models()
        for bench.now_s, name in ((1.0, "a"), (2.0, "b"), (3.0, "a"), (4.0, "c")):
            async with models.use(name):
                pass
        assert (names(models), bench.closed) == (["a:latest", "c:latest"], ["b:latest"])
        await models.close()

    run(go())


def test_a_model_in_use_is_waited_for_not_unloaded(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder, KeepSettings(max_loaded_models=1))
        models = bench.models()
        async with models.use("a"):
            coming = asyncio.create_task(models.ready("b"))
            while not models._num_waiting:
                await asyncio.sleep(0)
            assert names(models) == ["a:latest"]
        assert (await coming).name == "b:latest"
        assert bench.closed == ["a:latest"]
        await models.close()

    run(go())


def test_waiting_for_room_has_an_end(folder: str) -> None:
    async def go() -> None:
        models = Bench(folder, KeepSettings(max_loaded_models=1, load_timeout=0.01)).models()
        await models.load("a")
        async with models.use("a"):
            with pytest.raises((OutOfMemory, Overloaded)):
                await models.ready("b")
        await models.close()

    run(go())


def test_requests_wait_for_a_load_in_progress_as_many_as_may_and_as_long_as_may(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder, KeepSettings(load_timeout=0.05))
        bench.may_open = asyncio.Event()
        models = bench.models(max_waiting=2)
        waiting = [asyncio.create_task(models.ready("a")) for _ in range(2)]
        while models._num_waiting < 2:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 requests wait for models already"):
            await models.ready("b")
        for task in waiting:
            with pytest.raises(Overloaded, match=r"'a' is not loaded after 0\.05 s"):
                await task
        bench.may_open.set()  # the load goes on without those who left, for the next
        assert (await models.ready("a")).name == "a:latest"
        assert bench.opened == ["a:latest"]
        await models.close()

    run(go())


@pytest.mark.parametrize("name", ["nope", "", "../a", "/etc/passwd", "a b"])
def test_no_caller_reaches_a_file_by_its_path(folder: str, name: str) -> None:
    async def go() -> None:
        models = Bench(folder).models()
        with pytest.raises(NotFound):
            await models.ready(name)
        await models.close()

    run(go())


def test_a_folder_of_the_current_directory_is_no_model_to_callers(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private").mkdir()

    async def go() -> None:
        models = Bench(folder).models()
        with pytest.raises(NotFound):
            await models.ready("private")
        await models.close()

    run(go())


def test_a_context_meant_for_another_model_only_shortens_that_of_a_callers(folder: str) -> None:
    async def go() -> None:
        models = Bench(folder).models(context_length=100_000)
        assert (await models.ready("a")).context_length == 2048
        with pytest.raises(InvalidSetting, match="context_length must be 1–2048"):
            await models.load("b")
        await models.close()

    run(go())


def test_without_rules_nothing_is_loaded_but_by_hand(folder: str) -> None:
    async def go() -> None:
        bench = Bench(folder, keep=None)
        models = bench.models()
        with pytest.raises(NotFound, match="the model 'a' is not loaded"):
            await models.ready("a")
        await models.load("a")
        assert models._residents.next_due_s(0.0) == math.inf
        async with models.use("a") as model:
            assert model.name == "a:latest"
        await models.close()

    run(go())
