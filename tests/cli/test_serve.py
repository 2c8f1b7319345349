"""What `camelid serve` serves, and what it does before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from camelid.cli.serve import named_by


@pytest.mark.parametrize(
    ("environment", "is_first", "named"),
    [
        ({}, True, None),
        ({"MODEL": "a"}, False, None),
        ({"MODEL": "a"}, True, "a"),
        ({"MODEL": "a", "OLLAMA_MODEL_NAME": "b"}, True, "b"),
        ({"OLLAMA_MODEL_NAME": "b", "CAMELID_MODEL": "c"}, False, "c"),
        ({"CAMELID_MODEL": ""}, False, None),
    ],
)
def test_the_environment_names_the_model(environment: dict[str, str], is_first: bool, named: str | None) -> None:
    assert named_by(environment, is_first_process=is_first) == named


def test_a_container_s_start_is_one_command(tmp_path: Path) -> None:
    """Dual stack, a model by the environment, a ready file while it serves and none behind it."""
    ready = tmp_path / "ready"
    environment = {
        **os.environ,
        "OLLAMA_MODEL_NAME": "cria",
        "OLLAMA_HOST": "::",
        "CAMELID_INSECURE_NO_KEY": "1",
        "CAMELID_READY_FILE": str(ready),
        "CAMELID_DRAIN_SECONDS": "0",
    }
    command = [sys.executable, "-m", "camelid", "serve", "--port", "0", "--log-level", "error"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "listens on" in line)
        url = line.split()[-1]
        for address in ("[::1]", "127.0.0.1"):
            with urllib.request.urlopen(
                url.replace("[::1]", address).replace("127.0.0.1", address) + "/readyz"
            ) as answer:
                assert answer.status == 200
        patience = threading.Event()
        while not ready.exists():
            patience.wait(0.05)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert not ready.exists()
    assert server.returncode == 0


def test_a_model_that_no_registry_has_is_an_error_that_says_so(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "camelid",
        "serve",
        "127.0.0.1:9/ns/none",
        "--port",
        "0",
        "--models",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "error: 127.0.0.1:9 cannot be reached" in done.stderr
