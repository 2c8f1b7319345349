"""Replace servers one by one while streams run through a balancer, as a rolling update in Kubernetes does.

    python -m tools.campaign.rolling --replicas 2 --rounds 5

Every server is a process of its own behind a balancer of connections that asks /readyz every second and notices changes
late, as a cluster does. A replica is replaced by the rules of `camelid deploy kubernetes`: the new one becomes ready
first; the old one is told to leave, goes on answering while the balancer notices, and gets SIGTERM after that. A stream
has failed when it does not end as a stream should; nobody tries again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import httpx2

SERVER = ("-m", "camelid", "serve", "cria", "--port", "0", "--threads", "1", "--log-level", "error")
BODY = {
    "messages": [{"role": "user", "content": "Count slowly."}],
    "stream": True,
    "max_tokens": 60,
    "ignore_eos": True,
}


@dataclass(frozen=True)
class Pace:
    """How slow a cluster is. notice_s: from a change of a server until the balancer obeys it. keeps_answering_s: what
    `camelid deploy kubernetes` has a server wait before SIGTERM.
    """

    notice_s: float = 1.0
    probe_s: float = 1.0
    keeps_answering_s: float = 5.0


CLUSTER = Pace()


@dataclass
class Report:
    """What came of a campaign."""

    num_streams: int = 0
    num_replaced: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.num_streams} streams while {self.num_replaced} servers were replaced, in {self.seconds:.0f} s: "
            f"{len(self.failed)} failed"
        )


@dataclass(eq=False)
class Replica:
    """A server process, and whether the balancer sends it connections."""

    process: asyncio.subprocess.Process
    port: int
    takes: bool = False

    async def leave(self, pace: Pace) -> int:
        """Tell the server to leave as a cluster does; returns its exit code."""
        asyncio.get_running_loop().call_later(pace.notice_s, self._stop_taking)
        await asyncio.sleep(pace.keeps_answering_s)
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    def _stop_taking(self) -> None:
        self.takes = False


class Balancer:
    """Passes connections on to replicas in turn. Knows no HTTP."""

    def __init__(self) -> None:
        self.replicas: list[Replica] = []
        self._turn = 0

    async def serve(self) -> asyncio.Server:
        """Listen on a free port of this machine."""
        return await asyncio.start_server(self._pass_on, "127.0.0.1", 0)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taking = [replica for replica in self.replicas if replica.takes]
        self._turn += 1
        with contextlib.suppress(OSError):
            if taking:
                port = taking[self._turn % len(taking)].port
                back, forth = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, forth), _copy(back, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def start(command: Sequence[str], pace: Pace) -> Replica:
    """Start a server and return it once it is ready."""
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    async for line in process.stderr:
        if b"listens on" in line:
            replica = Replica(process, int(line.rsplit(b":", 1)[1]))
            await _until_ready(replica.port, pace)
            return replica
    raise RuntimeError("the server ended while it was being started")


async def _until_ready(port: int, pace: Pace) -> None:
    async with httpx2.AsyncClient() as client:
        while (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code != 200:
            await asyncio.sleep(pace.probe_s)


@contextlib.asynccontextmanager
async def _load(url: str, streams: int, report: Report) -> AsyncIterator[None]:
    """Keep `streams` streams running while the block runs."""
    is_over = asyncio.Event()

    async def ask() -> None:
        while not is_over.is_set():
            report.num_streams += 1
            if (wrong := await _stream(url)) is not None:
                report.failed.append(wrong)

    asking = [asyncio.create_task(ask()) for _ in range(streams)]
    try:
        yield
    finally:
        is_over.set()
        await asyncio.gather(*asking)


async def _stream(url: str) -> str | None:
    """Take one stream over a connection of its own; return what was wrong with it."""
    last = ""
    try:
        async with (
            httpx2.AsyncClient(timeout=120) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as answer,
        ):
            if answer.status_code != 200:
                return f"status {answer.status_code}"
            async for line in answer.aiter_lines():
                last = line or last
                if line.startswith("data: {") and "error" in json.loads(line[6:]):
                    return line
    except httpx2.HTTPError as error:
        return repr(error)
    return None if last == "data: [DONE]" else f"ended with {last!r}"


async def campaign(
    num_replicas: int, rounds: int, *, streams: int = 8, pace: Pace = CLUSTER, command: Sequence[str] = SERVER
) -> Report:
    """Replace every replica `rounds` times under load."""
    report, balancer = Report(), Balancer()
    server = await balancer.serve()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    balancer.replicas = [await start(command, pace) for _ in range(num_replicas)]
    for replica in balancer.replicas:
        replica.takes = True
    began = time.monotonic()
    async with _load(url, streams, report):
        for _ in range(rounds * num_replicas):
            new = await start(command, pace)
            await _replace_oldest(balancer, new, report, pace)
    report.seconds = time.monotonic() - began
    for replica in balancer.replicas:
        replica.process.send_signal(signal.SIGTERM)
        await replica.process.wait()
    server.close()
    await server.wait_closed()
    return report


async def _replace_oldest(balancer: Balancer, new: Replica, report: Report, pace: Pace) -> None:
    balancer.replicas.append(new)
    await asyncio.sleep(pace.notice_s)
    new.takes = True
    old = balancer.replicas[0]
    if code := await old.leave(pace):
        report.failed.append(f"a server left with {code}")
    balancer.replicas.remove(old)
    report.num_replaced += 1


def main() -> int:
    """Run a campaign of the size given on the command line; 0 if no stream failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    arguments = parser.parse_args()
    report = asyncio.run(campaign(arguments.replicas, arguments.rounds, streams=arguments.streams))
    print(report)
    print(*report.failed[:5], sep="\n", file=sys.stderr)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
