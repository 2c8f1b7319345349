"""A process that loads a model, answers once, says what that took, and leaves: `python -m camelid.bench.fresh …`.

Apart, because a start can be measured only from outside, and the most memory that a process held only of one that did
nothing else. Its one argument is JSON (see `Order`), its one line of output too.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from camelid.errors import CamelidError, Unavailable
from camelid.settings import ModelSettings


@dataclass(frozen=True)
class Order:
    """What the process does: a prompt of random ids, an answer of exactly `new_tokens`."""

    model: str
    prompt_tokens: int
    new_tokens: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What the process says: seconds since it was started; the most bytes that it held, and what it held at the end."""

    ready_s: float
    first_token_s: float
    most_bytes: int
    file_bytes: int  # of what is held now: pages of mapped files, which the system can drop
    own_bytes: int  # … and memory of its own


def in_fresh_process(order: Order) -> Told:
    """Carry an order out in a new process. Raises Unavailable when that process fails."""
    command = [sys.executable, "-P", "-m", "camelid.bench.fresh", json.dumps(asdict(order))]
    started = time.monotonic()
    done = subprocess.run([*command, repr(started)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Unavailable(f"the process under measurement failed: {last}")
    return Told(**json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Carry out the order in the arguments and print what it took."""
    order, started = Order(**json.loads(sys.argv[1])), float(sys.argv[2])
    try:
        told = _answer(order, started)
    except CamelidError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(told)))
    return 0


def _answer(order: Order, started: float) -> Told:
    import asyncio

    return asyncio.run(_answered(order, started))


async def _answered(order: Order, started: float) -> Told:
    from camelid.engine.request import GenerateRequest
    from camelid.runtime.runtime import Runtime

    from .subject import GREEDY

    runtime = Runtime(ModelSettings(**order.settings), in_process=True)
    model = await runtime.load(order.model)
    ready_s, first_s = time.monotonic() - started, 0.0
    prompt = tuple(1 + number % 200 for number in range(order.prompt_tokens))
    async for _ in model.engine.generate(GenerateRequest("fresh", prompt, GREEDY, order.new_tokens)):
        first_s = first_s or time.monotonic() - started
    held = _held()
    await runtime.close()
    return Told(ready_s, first_s, *held)


def _most_memory() -> int:
    """Return the most bytes that this program held.

    `getrusage` counts what the process was before it became this program, too: the copy of whoever started it.
    """
    try:
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _held() -> tuple[int, int, int]:
    """Return the most bytes that were held, and how many of a file's and of our own are held now."""
    most = _most_memory()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return most, 0, most
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "RssFile")))
    file_bytes, own = (int(fields[name].split()[0]) * 1024 for name in ("RssFile", "RssAnon"))
    return most, file_bytes, own


if __name__ == "__main__":
    sys.exit(main())
