"""The scripted runtime and the live server of `tests/server` serve here too, and one server of cria for scenarios."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from camelid.store.store import Store

for room in ("server", "models"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the server `zoo_url`: a Llama and a BERT that embed, and two models that rank."""
    from zoo import fill

    store = Store(tmp_path_factory.mktemp("zoo"))
    fill(store)
    return store


@pytest.fixture(scope="session")
def zoo_url(zoo: Store) -> Iterator[str]:
    """A server that was started with cria and has the models of `zoo` beside it."""
    command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--models", str(zoo.folder)]
    command += ["--log-level", "warning", "--cache-type", "f32", "--context-length", "512"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            yield next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
        finally:
            process.kill()


@pytest.fixture(scope="session")
def cria_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of cria, which is also called gpt-4o and claude-x there."""
    command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--log-level", "warning"]
    command += ["--alias", "gpt-4o=cria,claude-x=cria", "--models", str(tmp_path_factory.mktemp("models"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CAMELID_CONTEXT_LENGTH": "512"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            yield next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM would have it take requests for some seconds more
