"""A real Ray on this machine, a replica in each of two workers: one is killed, and every answer is what it would be."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

os.environ["RAY_AUTH_MODE"] = "disabled"  # read when Ray is imported; nobody but this machine reaches the cluster
import ray
from ray import serve

from camelid.integrations.ray_serve import build

NUM_STREAMS, NUM_TOKENS = 20, 250
URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def engines() -> Iterator[Any]:
    """A handle of the replicas, once all is up."""
    os.environ |= {"CAMELID_CONTEXT_LENGTH": "512", "CAMELID_THREADS": "1", "CAMELID_LOG_LEVEL": "warning"}
    _start_ray()
    try:
        serve.run(build({"model": "cria", "replicas": "2", "cpus": "1"}))
        yield serve.get_deployment_handle("Engines", app_name="default")
        serve.shutdown()
    finally:
        ray.shutdown()


def _start_ray(num_tries: int = 3) -> None:
    """Ray gives itself 30 seconds to start, which is not much on a machine that has something else to do."""
    for left in reversed(range(num_tries)):
        try:
            ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
            return
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if not left:
                pytest.skip("Ray did not start within its 30 seconds, three times: this machine is too busy")


def body(number: int) -> dict[str, Any]:
    return {
        "prompt": f"{number} and {number + 1} are numbers. The sum",
        "stream": True,
        "max_tokens": NUM_TOKENS,
        "min_tokens": NUM_TOKENS,
        "temperature": 1.5,
        "seed": number,
    }


def stream(number: int, began: threading.Semaphore | None = None) -> str:
    """Return the text of a stream, which has to end as it should."""
    content = json.dumps(body(number)).encode()
    request = urllib.request.Request(f"{URL}/v1/completions", content, {"content-type": "application/json"})
    parts: list[str] = []
    with urllib.request.urlopen(request, timeout=120) as answer:
        lines = list(_lines(answer, began))
    assert lines[-1] == "[DONE]"
    for chunk in map(json.loads, lines[:-1]):
        parts += [choice["text"] for choice in chunk["choices"]]
    return "".join(parts)


def _lines(answer: Any, began: threading.Semaphore | None) -> Iterator[str]:
    for at, line in enumerate(part for part in answer if part.startswith(b"data: ")):
        if at == 3 and began is not None:
            began.release()
        yield line.decode().removeprefix("data: ").strip()


def test_twenty_streams_outlive_a_replica_that_is_killed(engines: Any) -> None:
    with ThreadPoolExecutor(NUM_STREAMS) as pool:
        expected = list(pool.map(stream, range(NUM_STREAMS)))
        assert len(set(expected)) == NUM_STREAMS
        killed = engines.about.remote().result()["process"]
        began = threading.Semaphore(0)
        running = [pool.submit(stream, number, began) for number in range(NUM_STREAMS)]
        for _ in running:
            began.acquire()
        assert not any(one.done() for one in running)
        os.kill(killed, signal.SIGKILL)
        found = [one.result() for one in running]
    assert found == expected
    with urllib.request.urlopen(f"{URL}/metrics") as page:
        lost = [line for line in page.read().decode().splitlines() if "restarts" in line and not line.startswith("#")]
    assert float(lost[0].split()[-1]) >= 1


def test_every_dialect_is_there(engines: Any) -> None:
    with urllib.request.urlopen(f"{URL}/readyz") as answer:
        assert json.loads(answer.read()) == {"status": "ok"}
    content = json.dumps({"model": "cria", "prompt": "Hello!", "stream": False, "options": {"num_predict": 3}}).encode()
    request = urllib.request.Request(f"{URL}/api/generate", content, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert json.loads(answer.read())["eval_count"] == 3
