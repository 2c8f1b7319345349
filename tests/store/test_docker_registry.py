"""A real registry on loopback: what is pushed can be pulled and run. Needs Debian's `docker-registry` in the PATH."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from camelid.store.local import find
from camelid.store.manifests import (
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    OLLAMA_LAYER,
    Layer,
    Manifest,
    write_manifest,
)
from camelid.store.names import parse_name
from camelid.store.store import Store

REGISTRY = shutil.which("docker-registry")
pytestmark = pytest.mark.skipif(
    REGISTRY is None, reason="docker-registry is not in the PATH (apt install docker-registry)"
)

CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config.yml").write_text(CONFIG.format(folder=folder / "data", port=port))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([REGISTRY or "", "serve", folder / "config.yml"], stdout=log, stderr=log)
        try:
            _wait(port)
            yield f"localhost:{port}"
        finally:
            process.terminate()
            process.wait()


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("docker-registry does not listen")


def in_ollamas_form(store: Store, weights: Path) -> Manifest:
    config, parameters = b'{"model_format":"gguf","model_family":"llama"}', b'{"temperature":0}'
    return write_manifest(
        DOCKER_MANIFEST,
        Layer("application/vnd.docker.container.image.v1+json", store.blobs.add(config), len(config)),
        (
            Layer(f"{OLLAMA_LAYER}model", store.blobs.add_file(weights), weights.stat().st_size),
            Layer(f"{OLLAMA_LAYER}params", store.blobs.add(parameters), len(parameters)),
        ),
    )


def in_dockers_form(store: Store, weights: Path) -> Manifest:
    config = b'{"config":{"format":"gguf"},"descriptor":{},"rootfs":{"type":"rootfs","diff_ids":[]}}'
    return write_manifest(
        OCI_MANIFEST,
        Layer("application/vnd.docker.ai.model.config.v0.1+json", store.blobs.add(config), len(config)),
        (Layer(f"{DOCKER_LAYER}gguf.v3", store.blobs.add_file(weights), weights.stat().st_size),),
    )


def camelid(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "camelid", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("form", [in_ollamas_form, in_dockers_form])
def test_push_pull_run_and_pull_again(host: str, tmp_path: Path, form: object) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    manifest = form(here, find("cria").weights)  # type: ignore[operator]
    here.manifests.write(parse_name("mine"), manifest)
    remote = f"{host}/library/{form.__name__.replace('_', '-')}"  # type: ignore[attr-defined]

    camelid("push", "mine", remote, "--models", here.folder)
    camelid("pull", remote, "--models", there.folder)
    entry = there.entry(parse_name(remote))
    assert entry.manifest.content == manifest.content
    assert "sound" in camelid("verify", "--models", there.folder)
    assert remote in camelid("list", "--models", there.folder)

    options = ("--models", there.folder, "--temperature", "0", "--max-tokens", "8")
    assert camelid("run", remote, "Hello!", *options) == camelid("run", "cria", "Hello!", *options) != ""
    camelid("rm", remote, "--models", there.folder)
    assert list(there.blobs) == []
    assert camelid("run", remote, "Hello!", *options) != "", "a model that is not there is fetched"
