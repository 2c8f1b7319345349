"""`camelid bench http`: what the front adds, in three parts, each against a server that has just been started.

Many streams at once: gaps between tokens, at the client and in the engine. One at a time: first tokens. Idle ones: the
memory that each holds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from camelid.bench import machine
from camelid.bench.result import Result, Row, gather, percentile
from camelid.runtime.loading import describe, read_text_side
from camelid.settings import ModelSettings

from .client import Stream, ask, close, read_all
from .served import MODEL, Served, Serving, allow_files, served

SETTLING_TOKENS = 10  # of each stream: connections are still being made
WARM_UP = 20  # requests
OPENING_AT_ONCE = 64
IDLE_TOKENS = 100  # asked for, and never given

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Load:
    """How much is asked. `rate`: tokens a second of each stream."""

    streams: int = 256
    rate: float = 40.0
    tokens: int = 120
    singles: int = 100
    idle: int = 1000


def measure_http(load: Load, runs: int, say: Callable[[str], None] = lambda stage: None) -> Result:
    """Measure `runs` times. Raises Unavailable when the server does not start or refuses."""
    before, token_id = machine.this_machine(), _token_id()
    taken: dict[str, list[Mapping[str, float]]] = {"streams": [], "singles": [], "idle": []}
    for number in range(runs):
        say(f"round {number + 1} of {runs}")
        for part, values in taken.items():
            values.append(_PARTS[part](load, token_id))
    labels = {
        "streams": f"{load.streams} streams, {load.rate:g} tokens/s each",
        "singles": "one at a time",
        "idle": f"{load.idle:,} idle streams",
    }
    rows = tuple(Row({"case": labels[part]}, gather(_UNITS, values, {})) for part, values in taken.items())
    return Result(
        name="http",
        title="What the server adds to an engine's own times",
        subject="`serve` with a stub for an engine: it gives each stream a token at a fixed rate and computes nothing",
        machine=before,
        version=machine.version(),
        command=machine.command_line(),
        taken_at=machine.now(),
        rows=rows,
        notes=tuple(_notes(load, runs)),
    )


_UNITS = {
    "gap p50": "ms",
    "gap p99": "ms",
    "engine's own p99": "ms",
    "added p99": "ms",
    "front's core": "%",
    "first token p50": "ms",
    "first token p99": "ms",
    "memory of a stream": "KiB",
}


def _streams(load: Load, token_id: int) -> Mapping[str, float]:
    """Measure the gaps between tokens while many streams run."""

    def use(server: Served) -> tuple[list[Stream], float]:
        busy_s, begin = processor_s(server.pid), time.perf_counter()
        streams = asyncio.run(read_all(server.host, server.port, load.streams, load.tokens))
        return streams, (processor_s(server.pid) - busy_s) / (time.perf_counter() - begin)

    (streams, share), own = _against_server(load.rate, load.streams, token_id, use)
    settled = (stream.token_s[SETTLING_TOKENS:] for stream in streams)
    gaps = [after - before for token_s in settled for before, after in itertools.pairwise(token_s)]
    return added(gaps, own["gaps_s"][SETTLING_TOKENS:]) | {"front's core": 100 * share}


def added(gaps_s: Sequence[float], own_s: Sequence[float]) -> dict[str, float]:
    """Return what a client's gaps have more than the engine's, in milliseconds."""
    seen, own = percentile(gaps_s, 99) * 1e3, percentile(own_s, 99) * 1e3
    return {"gap p50": percentile(gaps_s, 50) * 1e3, "gap p99": seen, "engine's own p99": own, "added p99": seen - own}


def _singles(load: Load, token_id: int) -> Mapping[str, float]:
    """Measure the time to the first token, one request after the other, without the engine's own."""

    async def ask_in_turn(server: Served) -> list[float]:
        firsts = []
        for _ in range(WARM_UP + load.singles):
            stream, transport = await ask(server.host, server.port, 1)
            await stream.ended.wait()
            transport.close()
            firsts.append(stream.token_s[0] - stream.asked_s)
        return firsts[WARM_UP:]

    firsts, own = _against_server(load.rate, 1, token_id, lambda server: asyncio.run(ask_in_turn(server)))
    engine_s = percentile(own["firsts_s"], 50)
    return {f"first token p{p}": (percentile(firsts, p) - engine_s) * 1e3 for p in (50, 99)}


def _idle(load: Load, token_id: int) -> Mapping[str, float]:
    """Measure the memory that open streams hold which get no more tokens."""
    count = min(load.idle, allow_files(load.idle + 200) - 100)

    async def open_all(server: Served) -> float:
        opened = [await ask(server.host, server.port, IDLE_TOKENS) for _ in range(WARM_UP)]
        before = resident_bytes(server.pid)
        for start in range(0, count, OPENING_AT_ONCE):
            several = range(min(OPENING_AT_ONCE, count - start))
            opened += await asyncio.gather(*(ask(server.host, server.port, IDLE_TOKENS) for _ in several))
        after = resident_bytes(server.pid)
        close(opened)
        return (after - before) / count / 1024

    held, _ = _against_server(0.0, load.idle + WARM_UP, token_id, lambda server: asyncio.run(open_all(server)))
    return {"memory of a stream": held}


_PARTS: dict[str, Callable[[Load, int], Mapping[str, float]]] = {
    "streams": _streams,
    "singles": _singles,
    "idle": _idle,
}


def _against_server(
    rate: float, streams: int, token_id: int, use: Callable[[Served], _Found]
) -> tuple[_Found, dict[str, list[float]]]:
    """Start a server, use it, end it; return what was found and what the stub measured of itself."""
    front, others = cores()
    with tempfile.TemporaryDirectory() as folder, _on_cores(others):
        file = Path(folder) / "own.json"
        with served(Serving(rate, token_id, streams, str(file), front, others)) as server:
            found = use(server)
        return found, json.loads(file.read_text())


@contextmanager
def _on_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """Keep this process on some cores while the block runs."""
    if not cores:
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def cores() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a core for the front alone, and the others for engine and client; nothing where that cannot be."""
    if not hasattr(os, "sched_getaffinity"):
        return (), ()
    first, *others = sorted(os.sched_getaffinity(0))
    return ((first,), tuple(others)) if others else ((), ())


def processor_s(pid: int) -> float:
    """Return the seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _token_id() -> int:
    """Return a token that is a whole word, so that each one is text at once."""
    text = read_text_side(describe(MODEL, ModelSettings(device="cpu")))
    try:
        return text.tokenizer.encode(" the")[-1]
    finally:
        text.template.close()


def _notes(load: Load, runs: int) -> list[str]:
    front, _ = cores()
    place = "the front on one core alone, engine and client on the others" if front else "all on the same cores"
    return [
        f"Median and middle half of {runs} rounds; {place}",
        "Added: the 99th percentile of the gaps at the client, less that of the engine's own steps",
        "First token: from sending the request on a new connection to the token's arrival, less the engine's own time",
        f"Memory: of the front's process, after {load.idle:,} streams that had their first token and wait for the next",
    ]
