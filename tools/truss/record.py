"""Record what the real Truss server answers.

    python -m tools.truss.record PYTHON

PYTHON is the interpreter of an environment that has Truss and what its server needs:

    pip install truss==0.18.35 "fastapi<0.125" "numpy<2" msgpack==1.1.0 msgpack-numpy==0.4.8 uvloop opentelemetry-sdk \
        opentelemetry-exporter-otlp python-json-logger loguru orjson psutil joblib websockets "truss-transfer<0.0.45"

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
    with tempfile.TemporaryDirectory() as scratch:
        folder, gate = Path(scratch) / "built", Path(scratch) / "gate"
        built = subprocess.run(
            [python, "-c", _BUILD, str(HERE / "dummy"), str(folder)], check=True, capture_output=True, text=True
        )
        port = _free_port()
        server = _start(python, folder, gate, port)
        try:
            _wait_for(port)
            answers = [_ask(port, one) for one in EXCHANGES if one.while_loading]
            gate.touch()
            while _ask(port, Exchange("", "GET", "/ping"))["status"] != 200:
                time.sleep(0.05)
            answers += [_ask(port, one) for one in EXCHANGES if not one.while_loading]
        finally:
            server.terminate()
            server.wait()
    record = {"truss": built.stdout.split()[-1], "answers": answers}
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _start(python: str, folder: Path, gate: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the server as its container does: in the folder of the server, with the model's folder beside it."""
    app = folder / "server"
    for name in ("model", "config.yaml", "data", "packages"):
        source = folder / name
        if source.exists() and not (app / name).exists():
            (app / name).symlink_to(source)
    environment = {
        **os.environ,
        "INFERENCE_SERVER_PORT": str(port),
        "DUMMY_GATE": str(gate),
        "HOME": str(folder),
        "PYTHONPATH": str(folder),
    }
    return subprocess.Popen([python, "main.py"], cwd=app, env=environment, stdout=sys.stderr, stderr=sys.stderr)


def _free_port() -> int:
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
