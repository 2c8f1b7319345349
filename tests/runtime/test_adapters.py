"""Adapters of a served model: chosen by requests, loaded and unloaded while it runs, there again after a crash."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

import camelid
from camelid.errors import InvalidRequest, InvalidSetting, ModelError, NotFound
from camelid.runtime.runtime import Runtime
from camelid.runtime.supervisor import SupervisedEngine
from camelid.settings import ModelSettings, group, read_settings
from camelid.store.local import find
from camelid.types import CompletionRequest, EmbeddingRequest, Generation, Sampling, Stopping, Text
from tests.lora import random_pairs, spec_of, write_gguf_lora, write_peft_lora

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with adapters of cria: one.gguf, two (PEFT), and other.gguf, which is for another model."""
    folder = tmp_path_factory.mktemp("lora")
    spec = spec_of(find("cria").weights)
    write_gguf_lora(folder / "one.gguf", random_pairs(spec, 1))
    write_peft_lora(folder / "two", random_pairs(spec, 2))
    pairs = {key: (down[:, :8], up) for key, (down, up) in random_pairs(spec).items()}
    write_gguf_lora(folder / "other.gguf", pairs)
    return folder


def settings(**given: Any) -> ModelSettings:
    return ModelSettings(device="cpu", threads=1, context_length=512, **given)


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


async def ask(runtime: Runtime, model: str, num_tokens: int = 8) -> str:
    generation = Generation(Sampling(temperature=3.0, seed=5), Stopping(max_tokens=num_tokens, ignore_eos=True))
    events = runtime.complete(CompletionRequest(model, "The little llama", generation))
    return "".join([event.text async for event in events if isinstance(event, Text)])


def names(runtime: Runtime) -> list[str]:
    return [status.name for status in runtime.loaded()]


def test_requests_choose_among_adapters_that_come_and_go(lora: Path) -> None:
    async def go() -> None:
        runtime = Runtime(settings(adapter=(("one", str(lora / "one.gguf")),)), in_process=True)
        try:
            await runtime.load("cria")
            plain, one = await ask(runtime, "cria"), await ask(runtime, "cria:one")
            file = await runtime.load_adapter("cria", "two", str(lora / "two"))
            two = await ask(runtime, "cria:two")
            assert len({plain, one, two}) == 3
            mixed = ["cria", "cria:two", "cria:one"] * 2
            assert await asyncio.gather(*(ask(runtime, name) for name in mixed)) == [plain, two, one] * 2
            assert names(runtime) == ["cria", "cria:one", "cria:two"]
            status = runtime.loaded()
            assert (status[2].base, status[2].memory_bytes, file.rank) == ("cria", file.size_bytes, 4)
            before = status[0].memory_bytes
            await runtime.load_adapter("cria", "two", str(lora / "one.gguf"), replaces=True)
            assert await ask(runtime, "cria:two") == one
            await runtime.unload_adapter("cria:two", "one")
            assert names(runtime) == ["cria", "cria:two"]
            assert runtime.loaded()[0].memory_bytes == before - file.size_bytes
            with pytest.raises(NotFound):
                await ask(runtime, "cria:one")
            assert await ask(runtime, "cria") == plain
        finally:
            await runtime.close()

    run(go())


def test_what_cannot_be_an_adapter_is_refused_and_nothing_changes(lora: Path) -> None:
    async def go() -> None:
        runtime = Runtime(settings(), in_process=True)
        try:
            await runtime.load("cria")
            for name, path, error in (
                ("other", "other.gguf", ModelError),
                ("none", "none.gguf", NotFound),
                ("a/b", "one.gguf", InvalidRequest),
                ("", "one.gguf", InvalidRequest),
            ):
                with pytest.raises(error):
                    await runtime.load_adapter("cria", name, str(lora / path))
            await runtime.load_adapter("cria", "one", str(lora / "one.gguf"))
            with pytest.raises(InvalidRequest, match="is loaded already"):
                await runtime.load_adapter("cria", "one", str(lora / "two"))
            with pytest.raises(NotFound):
                await runtime.unload_adapter("cria", "two")
            with pytest.raises(InvalidRequest, match="without adapters"):
                await runtime.embed(EmbeddingRequest("cria:one", ("text",)))
            assert names(runtime) == ["cria", "cria:one"]
        finally:
            await runtime.close()

    run(go())


def test_an_engine_that_dies_is_followed_by_one_that_knows_the_adapters(lora: Path) -> None:
    async def go() -> None:
        runtime = Runtime(settings(adapter=(("one", str(lora / "one.gguf")),)))
        try:
            model = await runtime.load("cria")
            await runtime.load_adapter("cria", "two", str(lora / "two"))
            asked = ["cria", "cria:one", "cria:two"]
            expected = [await ask(runtime, name, 60) for name in asked]
            assert isinstance(model.engine, SupervisedEngine)
            assert model.engine.pid is not None
            answers = [asyncio.create_task(ask(runtime, name, 60)) for name in asked]
            while model.engine.stats().get("sequences_running") != 3:
                await asyncio.sleep(0)
            os.kill(model.engine.pid, 9)
            assert await asyncio.gather(*answers) == expected
            assert runtime.health().num_restarts == 1
        finally:
            await runtime.close()

    run(go())


def test_an_adapter_that_does_not_fit_stops_the_start_and_says_why(lora: Path) -> None:
    async def go() -> None:
        runtime = Runtime(settings(adapter=(("other", str(lora / "other.gguf")),)), in_process=True)
        with pytest.raises(ModelError, match="does not fit"):
            await runtime.load("cria")
        assert runtime.loaded() == []
        await runtime.close()

    run(go())


def test_adapters_are_given_as_flags_or_in_a_variable() -> None:
    flags = group(ModelSettings, read_settings({"adapter": ("a=x.gguf", "b=y")}, {})).adapter
    variable = group(ModelSettings, read_settings({"adapter": ()}, {"CAMELID_ADAPTER": "a=x.gguf,b=y"})).adapter
    assert flags == variable == (("a", "x.gguf"), ("b", "y"))
    for wrong in ("a", "a=", "=x", "a=x,a=y"):
        with pytest.raises(InvalidSetting):
            read_settings({"adapter": wrong}, {})


def test_the_library_has_models_with_adapters_beside_each_other(lora: Path) -> None:
    given: Any = {"adapter": f"one={lora / 'one.gguf'}"}
    asked: Any = {"temperature": 3.0, "seed": 5, "max_tokens": 8, "ignore_eos": True}
    with camelid.load("cria", device="cpu", threads=1, context_length=512, **given) as model:
        one, two = model.adapted("one"), model.adapted("two", str(lora / "two"))
        assert (one.name, two.name) == ("cria:one", "cria:two")
        texts = [each.complete("The little llama", **asked).text for each in (model, one, two)]
        assert len(set(texts)) == 3
        assert one.generate("The", max_new_tokens=2, num_beams=2).texts != ()
        with pytest.raises(NotFound):
            model.adapted("three")
