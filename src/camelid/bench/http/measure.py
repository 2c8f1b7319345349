"""`camelid bench http`: what the front adds, in three parts, against a server that is started anew for each round.

Idle streams: the memory that each holds. One at a time: first tokens. Many streams at once: gaps between tokens, at the
client and in the engine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from camelid.bench import machine
from camelid.bench.result import Result, Row, gather, percentile
from camelid.runtime.loading import describe, read_text_side
from camelid.settings import ModelSettings

from .client import ask, close, read_all, settled
from .served import MODEL, Served, Serving, allow_files, served
from .stub_engine import IDLE_TOKENS

SETTLING_TOKENS = 10  # of each stream: connections are still being made
WARM_UP = 20  # requests
OPENING_AT_ONCE = 64


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
        for part, values in _round(load, token_id).items():
            taken[part].append(values)
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
    "front's time a token": "µs",
    "first token p50": "ms",
    "first token p99": "ms",
    "memory of a stream": "KiB",
}


def _round(load: Load, token_id: int) -> dict[str, dict[str, float]]:
    """Start a server, measure everything against it, and end it."""
    front, others = cores()
    most = max(load.streams, load.idle + WARM_UP)
    with tempfile.TemporaryDirectory() as folder, _on_cores(others):
        file = Path(folder) / "own.json"
        with served(Serving(load.rate, token_id, most, str(file), front, others)) as server:
            idle = asyncio.run(_idle(server, load))
            firsts = asyncio.run(_singles(server, load))
            gaps, busy_s = _streams(server, load)
        own: dict[str, list[float]] = json.loads(file.read_text())
    engine_s = percentile(own["firsts_s"], 50)
    return {
        "streams": added(gaps, own["gaps_s"][SETTLING_TOKENS:]) | {"front's time a token": busy_s * 1e6},
        "singles": {f"first token p{p}": (percentile(firsts, p) - engine_s) * 1e3 for p in (50, 99)},
        "idle": {"memory of a stream": idle},
    }


def added(gaps_s: Sequence[float], own_s: Sequence[float]) -> dict[str, float]:
    """Return what a client's gaps have more than the engine's, in milliseconds."""
    seen, own = percentile(gaps_s, 99) * 1e3, percentile(own_s, 99) * 1e3
    return {"gap p50": percentile(gaps_s, 50) * 1e3, "gap p99": seen, "engine's own p99": own, "added p99": seen - own}


async def _idle(server: Served, load: Load) -> float:
    """Return the KiB that an open stream holds which gets no more tokens; leave when all are closed again."""
    count = min(load.idle, allow_files(load.idle + 200) - 100)
    opened = [await ask(server.host, server.port, IDLE_TOKENS) for _ in range(WARM_UP)]
    before = resident_bytes(server.pid)
    for start in range(0, count, OPENING_AT_ONCE):
        several = range(min(OPENING_AT_ONCE, count - start))
        opened += await asyncio.gather(*(ask(server.host, server.port, IDLE_TOKENS) for _ in several))
    after = resident_bytes(server.pid)
    close(opened)
    await settled(server.host, server.port)
    return (after - before) / count / 1024


async def _singles(server: Served, load: Load) -> list[float]:
    """Return the seconds to the first token of requests that are put one after the other."""
    firsts = []
    for _ in range(WARM_UP + load.singles):
        stream, transport = await ask(server.host, server.port, 1)
        await stream.ended.wait()
        transport.close()
        firsts.append(stream.token_s[0] - stream.asked_s)
    return firsts[WARM_UP:]


def _streams(server: Served, load: Load) -> tuple[list[float], float]:
    """Return the gaps between tokens while many streams run, and the processor time that each cost the front."""
    before_s = processor_s(server.pid)
    streams = asyncio.run(read_all(server.host, server.port, load.streams, load.tokens))
    busy_s = (processor_s(server.pid) - before_s) / (load.streams * load.tokens)
    return gaps_between([stream.token_s for stream in streams]), busy_s


def gaps_between(arrivals_s: Sequence[Sequence[float]]) -> list[float]:
    """Return the gaps between what each stream got, while all of them ran: after the last has settled, and before the
    first has ended. Where they never all ran at once, it is all gaps.
    """
    since = max(arrived[min(SETTLING_TOKENS, len(arrived) - 1)] for arrived in arrivals_s)
    until = min(arrived[-1] for arrived in arrivals_s)
    pairs = [pair for arrived in arrivals_s for pair in itertools.pairwise(arrived)]
    together = [pair for pair in pairs if since <= pair[0] and pair[1] <= until]
    return [after - before for before, after in together or pairs]


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
        f"Median and middle half of {runs} rounds; {place}" if runs > 1 else f"One round; {place}",
        "The front's time is processor time of its process, connections included: it does not depend on other work",
        "Added: the 99th percentile of the gaps at the client while all streams run, less that of the engine's steps",
        "First token: from sending the request on a new connection to the token's arrival, less the engine's own time",
        f"Memory: of the front's process, after {load.idle:,} streams that had their first token and wait for the next",
    ]
