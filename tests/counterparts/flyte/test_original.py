"""The plugin that people use today: ours can take its place, and its own pods work against our server.

The script that its pods run is taken from the installed package; what it installs at every start is installed here.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import subprocess
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flytekitplugins import inference
from tests.store.registry_server import Served, registry

from camelid.integrations import flyte


def arguments_of(made: Any) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(made).parameters.items()}


@pytest.mark.parametrize("name", ["Model", "Ollama"])
def test_every_argument_of_the_original_is_there_with_its_default(name: str) -> None:
    theirs, ours = arguments_of(getattr(inference, name)), arguments_of(getattr(flyte, name))
    theirs.pop("image", None)  # that of a server of ours
    assert {key: ours.get(key, "missing") for key in theirs} == theirs


@pytest.mark.parametrize("modelfile", [None, "FROM x", "FROM {inputs.gguf}"])
def test_the_pod_has_the_same_parts(modelfile: str | None) -> None:
    def parts(place: Any) -> Any:
        made = place.Ollama(model=place.Model("m", modelfile=modelfile), mem="30Gi", port=11435)
        spec = made.pod_template.pod_spec
        steps = [(one.name, one.restart_policy, one.resources.requests["memory"]) for one in spec.init_containers]
        port = spec.init_containers[0].ports[0].container_port
        mounts = [mount.mount_path for mount in spec.init_containers[-1].volume_mounts]
        return made.base_url, steps, port, mounts, spec.containers, made.pod_template.primary_container_name

    assert parts(flyte) == parts(inference)


def run_original(server: str, folder: Path, name: str, modelfile: str | None = None) -> str:
    """Run what the original's last step runs, with the volumes in `folder`, and return what it printed."""
    made = inference.Ollama(model=inference.Model(name, modelfile=modelfile), port=urlsplit(server).port)
    step = made.pod_template.pod_spec.init_containers[-1]
    (line,) = step.args
    programs = folder / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    (programs / "pip").write_text("#!/bin/sh\nexit 0\n")  # both packages are there
    (programs / "pip").chmod(0o755)
    assert "pip install ollama==0.3.3 " in line
    assert version("ollama") == "0.3.3"
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "OLLAMA_HOST": server}
    environment["PYTHONPATH"] = str(Path(inference.__file__).parents[2])
    done = subprocess.run(
        [*step.command, line.replace("/shared/", f"{folder}/")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(server: str, name: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{server}/api/show", json.dumps({"model": name}).encode())
    with urllib.request.urlopen(request) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def in_registry(weights: Path) -> Served:
    """A registry that has the model as library/tiny:1b."""
    content, config = weights.read_bytes(), b'{"model_format":"gguf","model_family":"llama"}'
    digests = [f"sha256:{hashlib.sha256(blob).hexdigest()}" for blob in (content, config)]
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digests[0], "size": len(content)}
    image = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digests[1], "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": image, "layers": [layer]}
    blobs = dict(zip(digests, (content, config), strict=True))
    return Served(manifests={"library/tiny:1b": json.dumps(manifest).encode()}, blobs=blobs)


def test_the_original_s_pods_pull_from_us(server: str, weights: Path, tmp_path: Path) -> None:
    with registry(in_registry(weights)) as host:
        name = f"{host}/library/tiny:1b"
        said = run_original(server, tmp_path, name)
    assert said.splitlines()[-1] == "{'status': 'success'}"
    assert shown(server, name)["details"]["quantization_level"] == "Q8_0"


def test_the_original_s_pods_create_of_a_modelfile(server: str, weights: Path, tmp_path: Path) -> None:
    texts = 'SYSTEM """Be "brief"."""\nTEMPLATE """{{ .System }} {{ .Prompt }}"""'
    text = f"FROM {weights}\n{texts}\nPARAMETER top_k 3"
    said = run_original(server, tmp_path, "from-file", text)
    assert said.splitlines()[-1] == "{'status': 'success'}"
    found = shown(server, "from-file")
    assert (found["system"], found["template"]) == ('Be "brief".', "{{ .System }} {{ .Prompt }}")
    assert found["parameters"].split() == ["top_k", "3"]


def test_the_original_s_pods_create_of_a_dynamic_modelfile(server: str, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text(json.dumps({"gguf": str(weights), "heat": 0.5, "who": "cria"}))
    text = 'FROM {inputs.gguf}\nPARAMETER temperature {inputs.heat}\nSYSTEM """You are {inputs.who}."""'
    said = run_original(server, tmp_path, "dynamic", text)
    assert said.splitlines()[-1] == "{'status': 'success'}"
    assert shown(server, "dynamic")["system"] == "You are cria."
