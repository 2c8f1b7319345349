"""The scripted runtime and the live server of `tests/server` serve here too, and the tiny models of `tests/models`.

One server for all tests of models that come and go: a store with a Llama that embeds, a BERT that embeds, two models
that rank, and room for what tests make.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from camelid.store.store import Store

for room in ("server", "models"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the server `zoo_url`."""
    from zoo import fill

    store = Store(tmp_path_factory.mktemp("zoo"))
    fill(store)
    return store


@pytest.fixture(scope="session")
def zoo_url(zoo: Store) -> Iterator[str]:
    """A server that was started with cria and has the models of `zoo` beside it."""
    command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--models", str(zoo.folder)]
    command += ["--log-level", "warning", "--cache-type", "f32", "--context-length", "512"]
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            yield next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
        finally:
            process.kill()  # it would wait some seconds for the load balancers that are not there
