"""A server of Camelid's, in the environment of Camelid, and a registry with a model, for the tests beside this file."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server as our image starts it."""
    command = [os.environ["CAMELID_PYTHON"], "-m", "camelid", "serve", "--port", "0", "--log-level", "warning"]
    environment = os.environ | {
        "CAMELID_MODELS": str(tmp_path_factory.mktemp("models")),
        "CAMELID_CONTEXT_LENGTH": "512",
    }
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            yield next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
        finally:
            process.kill()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in a file."""
    target = tmp_path_factory.mktemp("weights") / "tiny.gguf"
    code = (
        "import sys; from pathlib import Path; from camelid.models.synth import write_synthetic; "
        "write_synthetic(Path(sys.argv[1]), 'tiny', 'Q8_0', num_layers=1)"
    )
    subprocess.run([os.environ["CAMELID_PYTHON"], "-c", code, str(target)], check=True)
    return target
