"""Kill pulls with SIGKILL again and again, and look at what they leave.

    python -m tools.campaign.pulls --kills 500

A registry on loopback serves one model at a bounded rate. A pull is started and killed at a random moment until one
gets through; then the next store. After every kill nothing may be listed that is not whole; at the end the model must
be sound. Bytes that were sent more than once are counted: they are what a kill costs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.store.registry_server import Handler, Served, registry

from camelid.store.blobs import digest_of
from camelid.store.download import STREAMS
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import parse_name
from camelid.store.store import Store

SIZE = 96 << 20
RATE = 40 << 20  # bytes a second on each connection
SLICE = 1 << 20


def slow(handler: Handler, content: bytes) -> bool:
    """Answer a range at RATE, counting what was sent."""
    handler.served.faults.append(slow)
    start, end = (int(number) for number in handler.headers["Range"].removeprefix("bytes=").split("-"))
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
    handler.send_header("Content-Length", str(end + 1 - start))
    handler.end_headers()
    for at in range(start, end + 1, SLICE):
        part = content[at : min(at + SLICE, end + 1)]
        try:
            handler.wfile.write(part)
        except OSError:
            handler.close_connection = True
            return True
        with handler.served.lock:
            handler.served.sent_bytes += len(part)
        time.sleep(len(part) / RATE)
    return True


@dataclass
class Report:
    """What came of it."""

    num_kills: int = 0
    num_whole: int = 0
    again_bytes: list[float] = field(default_factory=list)  # for each kill, per stream

    def __str__(self) -> str:
        median = statistics.median(self.again_bytes) if self.again_bytes else 0.0
        return (
            f"{self.num_kills} kills, {self.num_whole} models whole in the end, no wrong state; "
            f"fetched again for each kill: {median / 2**20:.1f} MiB per stream in the median"
        )


def one_store(served: Served, host: str, rng: random.Random, report: Report, most_kills: int) -> None:
    """Pull into a new store, killed until one pull gets through."""
    with tempfile.TemporaryDirectory() as folder:
        store, served.sent_bytes, kills = Store(Path(folder)), 0, 0
        while not _pull(host, folder, rng.uniform(0.3, 2.5) if kills < most_kills else None):
            kills += 1
            listed = list(store.entries())
            if listed:  # killed between its last step and its end: then it must be whole, as it is checked below
                break
        (entry,) = store.entries()
        store.verify(entry)
        assert store.leftovers() == []
    report.num_kills += kills
    report.num_whole += 1
    if kills:
        report.again_bytes.append(max(served.sent_bytes - SIZE, 0) / kills / STREAMS)


def _pull(host: str, folder: str, kill_after_s: float | None) -> bool:
    """Run one pull; return whether it got through."""
    command = [sys.executable, "-m", "camelid", "pull", f"{host}/ns/m", "--models", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(kill_after_s) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def run(num_kills: int, seed: int) -> Report:
    """Kill so many pulls."""
    rng, report = random.Random(seed), Report()
    weights, config = rng.randbytes(SIZE), b"{}"
    layers = (Layer(f"{OLLAMA_LAYER}model", digest_of(weights), SIZE),)
    image = Layer("application/vnd.docker.container.image.v1+json", digest_of(config), len(config))
    manifest = write_manifest(DOCKER_MANIFEST, image, layers)
    contents = {str(digest_of(content)): content for content in (weights, config)}
    served = Served({"ns/m:latest": manifest.content}, contents, faults=[slow] * 8)
    with registry(served) as host:
        assert parse_name(f"{host}/ns/m").host == host
        while report.num_kills < num_kills:
            one_store(served, host, rng, report, num_kills - report.num_kills)
    return report


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(run(options.kills, options.seed))


if __name__ == "__main__":
    main()
