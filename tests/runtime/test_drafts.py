"""A draft model beside a model: found and checked before both are loaded, counted, there again after a crash."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from camelid.errors import ModelError, NotFound
from camelid.formats import open_checkpoint, tensor_from_raw, write_gguf
from camelid.models.synth import write_synthetic
from camelid.runtime.loading import describe
from camelid.runtime.runtime import Runtime
from camelid.runtime.supervisor import SupervisedEngine
from camelid.settings import ModelSettings
from camelid.types import CompletionRequest, Generation, Sampling, Stopping, Text

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, a draft model that agrees with it, and one with another vocabulary."""
    path = tmp_path_factory.mktemp("drafts")
    write_synthetic(path / "model.gguf", "tiny", "Q8_0", num_layers=3, active_layers=1)
    write_synthetic(path / "draft.gguf", "tiny", "Q8_0", num_layers=1)
    with open_checkpoint(path / "draft.gguf") as draft:
        metadata = dict(draft.typed_metadata)  # type: ignore[attr-defined]
        tokens = metadata["tokenizer.ggml.tokens"]
        values = list(draft.metadata["tokenizer.ggml.tokens"])
        values[300], values[301] = values[301], values[300]
        metadata["tokenizer.ggml.tokens"] = type(tokens)(tokens.type, values) if hasattr(tokens, "type") else values
        infos = draft.tensors.values()
        tensors = [tensor_from_raw(info.name, info.shape, info.block_type, draft.raw(info.name)) for info in infos]
        write_gguf(path / "other.gguf", metadata, tensors)
    return path


def settings(folder: Path, draft: str | None = "draft.gguf", **given: Any) -> ModelSettings:
    own = None if draft is None else str(folder / draft)
    return ModelSettings(device="cpu", threads=1, context_length=256, cache_memory=2**26, draft=own, **given)


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


async def ask(runtime: Runtime, seed: int) -> str:
    generation = Generation(Sampling(temperature=seed / 3, seed=seed), Stopping(max_tokens=60, ignore_eos=True))
    events = runtime.complete(CompletionRequest("model", (5, 6, 7 + seed), generation))
    return "".join([event.text async for event in events if isinstance(event, Text)])


def test_answers_are_those_of_the_model_alone_and_a_crash_changes_nothing(folder: Path) -> None:
    async def go(draft: str | None, *, in_process: bool) -> list[str]:
        runtime = Runtime(settings(folder, draft), in_process=in_process)
        try:
            model = await runtime.load(str(folder / "model.gguf"))
            first = await ask(runtime, 0)
            rest = [asyncio.create_task(ask(runtime, seed)) for seed in range(1, 5)]
            if isinstance(model.engine, SupervisedEngine):
                while model.engine.stats().get("sequences_running", 0) < 2:
                    await asyncio.sleep(0)
                os.kill(model.engine.pid or 0, 9)
            answers = [first, *await asyncio.gather(*rest)]
            stats = runtime.stats()
            assert stats["drafted_tokens"] == stats["right_drafts"]
            assert stats["drafted_tokens"] > 0 or draft is None
            return answers
        finally:
            await runtime.close()

    expected = run(go(None, in_process=True))
    assert run(go("draft.gguf", in_process=True)) == expected
    assert run(go("draft.gguf", in_process=False)) == expected


def test_a_draft_model_s_memory_is_counted(folder: Path) -> None:
    model = str(folder / "model.gguf")
    alone, both = describe(model, settings(folder, None)), describe(model, settings(folder))
    assert both.draft == (str(folder / "draft.gguf"),)
    assert both.sizing.num_pages == alone.sizing.num_pages
    weights = (folder / "draft.gguf").stat().st_size
    assert both.sizing.memory_bytes - alone.sizing.memory_bytes > 0.9 * weights


@pytest.mark.parametrize(
    ("draft", "error", "says"),
    [("other.gguf", ModelError, "has another tokenizer: 300 is"), ("none.gguf", NotFound, "there is no file")],
)
def test_a_draft_model_that_does_not_fit_is_refused(
    folder: Path, draft: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        describe(str(folder / "model.gguf"), settings(folder, draft))


def test_a_model_that_a_request_loads_goes_without_a_draft_model_of_another(folder: Path) -> None:
    from camelid.runtime.loading import look_up
    from camelid.store.local import find

    found = look_up(find("cria"), settings(folder), needs_draft=False)
    assert found.draft == ()
    with pytest.raises(ModelError, match="has 512 tokens, and the model"):
        look_up(find("cria"), settings(folder))
