"""Record what the real Truss server answers.

    python -m tools.truss.record PYTHON

PYTHON is the interpreter of an environment that has what tests/counterparts/truss.txt lists.

It builds the server's folder with Truss itself, without Docker, starts it with the model in tools/truss/dummy, sends
the requests of tools/truss/exchanges.py, and writes tests/golden/predict/truss.json.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .exchanges import EXCHANGES, Exchange

HERE = Path(__file__).parent
RECORD = HERE.parents[1] / "tests" / "golden" / "predict" / "truss.json"
KEPT = ("content-type", "x-baseten-error-source", "x-baseten-error-code", "transfer-encoding")
_BUILD = """
import sys
from pathlib import Path
from truss.contexts.image_builder.serving_image_builder import ServingImageBuilderContext
from importlib.metadata import version
ServingImageBuilderContext.run(Path(sys.argv[1])).prepare_image_build_dir(Path(sys.argv[2]))
print(version("truss"))
"""


def main(python: str) -> None:
    """Build, start, ask, write."""
    RECORD.write_text(json.dumps(record(python), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def record(python: str) -> dict[str, Any]:
    """Return what the server of the Truss that `python` has answers, with its version."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, gate = Path(scratch) / "built", Path(scratch) / "gate"
        version = build(python, HERE / "dummy", folder)
        with running(python, folder, {"DUMMY_GATE": str(gate)}) as port:
            answers = [_ask(port, one) for one in EXCHANGES if one.while_loading]
            gate.touch()
            wait_until_ready(port)
            answers += [_ask(port, one) for one in EXCHANGES if not one.while_loading]
    return {"truss": version, "answers": answers}


def build(python: str, source: Path, folder: Path) -> str:
    """Make the server's folder of a Truss, as its image would hold it, and return the version of Truss."""
    command = [python, "-c", _BUILD, str(source), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


@contextmanager
def running(python: str, folder: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run the server of a built folder while the block runs, and yield its port; it may still be loading."""
    port = free_port()
    server = _start(python, folder, port, environment)
    try:
        _wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait()


def wait_until_ready(port: int, seconds: float = 60.0) -> None:
    """Wait until the model is loaded. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while _ask(port, Exchange("", "GET", "/ping"))["status"] != 200:
        if time.monotonic() > until:
            raise TimeoutError(f"no model on port {port} after {seconds:g} s")
        time.sleep(0.05)


def _start(python: str, folder: Path, port: int, extra: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the server as its container does: in the folder of the server, with the model's folder beside it."""
    app = folder / "server"
    for name in ("model", "config.yaml", "data", "packages"):
        source = folder / name
        if source.exists() and not (app / name).exists():
            (app / name).symlink_to(source)
    environment = {
        **os.environ,
        "INFERENCE_SERVER_PORT": str(port),
        "HOME": str(folder),
        "PYTHONPATH": str(folder),
        **extra,
    }
    return subprocess.Popen([python, "main.py"], cwd=app, env=environment, stdout=sys.stderr, stderr=sys.stderr)


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no server on port {port} after {seconds:g} s")


def _ask(port: int, exchange: Exchange) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(exchange.method, exchange.path, exchange.body or None, dict(exchange.headers))
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return {
        "name": exchange.name,
        "status": response.status,
        "headers": {name: value for name in KEPT if (value := response.getheader(name)) is not None},
        **written(data),
    }


def written(data: bytes) -> dict[str, str]:
    """Return a body as text, or in base64 where it is none."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


if __name__ == "__main__":
    main(sys.argv[1])
