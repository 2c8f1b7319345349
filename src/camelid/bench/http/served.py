"""The server under measurement, in a process of its own: `serve` as it is, but for the engine, which is a stub.

`python -m camelid.bench.http.served ORDER`, JSON of `Serving`. Its standard output tells the address; end of file on
standard input ends it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from camelid.errors import Unavailable
from camelid.settings import ModelSettings, ServerSettings

MODEL = "cria"
END_S = 20.0
URL = "http://"


@dataclass(frozen=True)
class Serving:
    """How the stub behaves, how many streams there may be, and on which cores front and stub run (none: on any)."""

    rate: float
    token_id: int
    streams: int
    file: str  # where the stub leaves its own times
    front_cores: tuple[int, ...]
    other_cores: tuple[int, ...]


@dataclass(frozen=True)
class Served:
    """A server that is up."""

    pid: int
    host: str
    port: int


@contextmanager
def served(serving: Serving) -> Iterator[Served]:
    """Run a server while the block runs. Raises Unavailable when it does not come up."""
    command = [sys.executable, "-P", "-m", "camelid.bench.http.served", json.dumps(asdict(serving))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if URL not in line:
            raise Unavailable(f"the server under measurement did not start: {line.strip() or 'it said nothing'}")
        host, _, port = line.rpartition(URL)[2].strip().rpartition(":")
        yield Served(process.pid, host, int(port))
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def main() -> None:
    """Serve until standard input ends."""
    from camelid.runtime.runtime import Runtime
    from camelid.server.app import serve
    from camelid.server.limits import Limits

    order = json.loads(sys.argv[1])
    serving = Serving(**order)
    allow_files(serving.streams + 200)
    if serving.front_cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(serving.front_cores))
    stub = ("camelid.bench.http.stub_engine", str(serving.rate), str(serving.token_id), serving.file)
    worker = (sys.executable, "-P", "-m", *stub, ",".join(map(str, serving.other_cores)))
    threading.Thread(target=_end_with_input, daemon=True).start()
    runtime = Runtime(ModelSettings(device="cpu", max_sequences=serving.streams), worker=worker)
    limits = Limits(max_connections=serving.streams + 100, accept_after_term_s=0.0, cut_s=1.0)
    settings = ServerSettings(port=0, drain_seconds=0.0)
    serve(runtime, settings, MODEL, limits=limits, announce=_announce)


def allow_files(count: int) -> int:
    """Allow this process so many open files, as far as the system lets it. Return how many there may be."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count if hard == resource.RLIM_INFINITY else min(count, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _announce(text: str) -> None:
    print(text.splitlines()[0], flush=True)


def _end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
