"""W7: requests that use LoRA adapters: none, one, and as many different ones as there are streams, in turns.

The adapters are synthetic: seeded random numbers for every matrix of every layer, as large as trained ones and as
costly.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from camelid.bench.subject import Needs, Subject
from camelid.bench.workload import Case, Values, Workload, in_engine
from camelid.bench.workloads.batch import together
from camelid.models.synth import write_synthetic_adapter
from camelid.runtime.adapters import key_of
from camelid.runtime.frames import Adapt


@dataclass(frozen=True)
class Sizes:
    """How many adapters and of which rank; streams at once; tokens of each prompt and answer."""

    adapters: int = 16
    rank: int = 16
    streams: tuple[int, ...] = (1, 8)
    prompt_tokens: int = 64
    new_tokens: int = 24


def needs(sizes: Sizes) -> Needs:
    """Return the room for the widest case."""
    return Needs(max(sizes.streams), sizes.prompt_tokens + sizes.new_tokens + 2)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return, for each number of streams, a case without adapters, one with the same for all, one with one for each."""
    shelf = _Shelf(subject, sizes)
    return [
        _case(subject, sizes, shelf, streams, different)
        for streams in sizes.streams
        for different in sorted({0, min(1, sizes.adapters), min(streams, sizes.adapters)})
    ]


class _Shelf:
    """The adapters, made and handed to the engine when they are first used."""

    def __init__(self, subject: Subject, sizes: Sizes) -> None:
        self._subject = subject
        self._sizes = sizes
        self._keys: list[str] = []

    async def keys(self, count: int) -> list[str]:
        """Return the keys of so many adapters."""
        while len(self._keys) < count:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "adapter.gguf"
                spec = self._subject.model.description.spec
                write_synthetic_adapter(path, spec, self._sizes.rank, seed=len(self._keys))
                adapt = Adapt(key_of(path), str(path))
                await self._subject.model.engine.adapt(adapt)
                self._keys.append(adapt.key)
        return self._keys[:count]


def _case(subject: Subject, sizes: Sizes, shelf: _Shelf, streams: int, different: int) -> Case:
    async def run(number: int) -> Values:
        keys = await shelf.keys(different) or [""]
        asked = [
            (subject.prompt((number, different, stream), sizes.prompt_tokens), keys[stream % len(keys)])
            for stream in range(streams)
        ]
        start_s = time.perf_counter()
        await asyncio.gather(*(subject.ask(prompt, 1, adapter=key) for prompt, key in asked))
        prompt_s = time.perf_counter() - start_s
        lines = await asyncio.gather(
            *(subject.ask((*prompt, 1), sizes.new_tokens, adapter=key) for prompt, key in asked)
        )
        return {"decode, all streams": together(lines), "prompts": streams * sizes.prompt_tokens / prompt_s}

    middle = sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"streams": str(streams), "adapters": str(different) if different else "none", "rank": str(sizes.rank)},
        run,
        {"decode, all streams": lambda work, roofs: streams / work.decode_seconds(roofs, streams, middle)},
    )


WORKLOAD = Workload(
    "adapters",
    "W7: LoRA adapters",
    {"small": Sizes(), "full": Sizes(16, 16, (1, 4, 16), 128, 128)},
    in_engine(
        {"decode, all streams": "tok/s", "prompts": "tok/s"},
        needs,
        cases,
        "The roof knows of no adapters",
    ),
)
