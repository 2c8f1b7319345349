"""Our pods in the hands of the real flytekit: they serialize, and each of their steps runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flytekit import Resources, task, workflow
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.tools.translator import get_serializable
from flytekit.types.file import FlyteFile
from test_original import shown

from camelid.integrations.flyte import Model, Ollama

DYNAMIC = """FROM {inputs.weights}
PARAMETER temperature {inputs.sampling.temperature:.2f}
PARAMETER stop {inputs.sampling.stops[0]}
TEMPLATE \"\"\"{{ .System }} {{ .Prompt }}\"\"\"
SYSTEM \"\"\"You are {inputs.who}. Answer as {"name": "…", "nested": {"n": {inputs.n}}}.\"\"\""""


@task(
    container_image="tasks:1",
    pod_template=Ollama(model=Model("llama3.1:8b"), gpu=0, cache_claim="models").pod_template,
    requests=Resources(gpu="0"),
)
def ask(question: str) -> str:
    return question


@workflow
def asking(question: str) -> str:
    return ask(question=question)


def test_a_workflow_with_our_template_compiles_and_serializes() -> None:
    image = Image(name="tasks", fqn="tasks", tag="1")
    settings = SerializationSettings(ImageConfig(image, [image]), "project", "domain", "version")
    entities: dict[Any, Any] = {}
    compiled = get_serializable(entities, settings, asking)
    assert [node.task_node.reference_id.name.rsplit(".", 1)[1] for node in compiled.template.nodes] == ["ask"]
    (pod,) = [
        made.template.k8s_pod
        for made in entities.values()
        if hasattr(made, "template") and hasattr(made.template, "k8s_pod")
    ]
    spec = json.loads(json.dumps(pod.pod_spec))
    assert [one["name"] for one in spec["containers"]] == ["primary"]
    server, provisioner = spec["initContainers"]
    assert (server["name"], server["restartPolicy"]) == ("model-server", "Always")
    assert server["resources"]["limits"] == {"cpu": "1", "memory": "15Gi", "ephemeral-storage": "1Gi"}
    assert server["startupProbe"]["httpGet"] == {"path": "/", "port": 11434}
    assert provisioner["command"] == ["camelid"]
    assert provisioner["args"][:2] == ["provision", "llama3.1:8b"]


def run_steps(template: Ollama, inputs: dict[str, tuple[Any, Any]], folder: Path) -> None:
    """Run the steps of a pod after its server, with /shared in `folder`."""
    context = FlyteContextManager.current_context()
    literals = TypeEngine.dict_to_literal_map(
        context,
        {name: value for name, (_, value) in inputs.items()},
        {name: kind for name, (kind, _) in inputs.items()},
    )
    (folder / "inputs.pb").write_bytes(literals.to_flyte_idl().SerializeToString())
    for step in template.pod_template.pod_spec.init_containers[1:]:
        program = sys.executable if step.command[0] == "python3" else os.environ["CAMELID_PYTHON"]
        rest = step.command[1:] if step.command[0] == "python3" else ["-m", "camelid"]
        given = [text.replace("{{.input}}", str(folder / "inputs.pb")) for text in step.args]
        given = [text.replace("/shared/", f"{folder}/") if text.startswith("/shared") else text for text in given]
        done = subprocess.run([program, *rest, *given], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_inputs_of_every_kind_reach_the_model(server: str, weights: Path, tmp_path: Path) -> None:
    template = Ollama(model=Model("made", modelfile=DYNAMIC, deadline_s=60), port=urlsplit(server).port or 0)
    inputs = {
        "weights": (FlyteFile, FlyteFile(str(weights))),
        "sampling": (dict, {"temperature": 0.25, "stops": ["###"]}),
        "who": (str, 'cria, with "quotes" and {braces}'),
        "n": (int, 3),
    }
    run_steps(template, inputs, tmp_path)
    found = shown(server, "made")
    assert found["system"] == 'You are cria, with "quotes" and {braces}. Answer as {"name": "…", "nested": {"n": 3}}.'
    assert found["template"] == "{{ .System }} {{ .Prompt }}"
    assert sorted(found["parameters"].split()) == sorted(["temperature", "0.25", "stop", '"###"'])


def test_a_model_that_cannot_be_had_ends_the_pod_with_the_reason(server: str, tmp_path: Path) -> None:
    template = Ollama(model=Model("localhost:1/none:1b", deadline_s=60), port=urlsplit(server).port or 0)
    with pytest.raises(AssertionError, match=r"error: .*cannot be reached"):
        run_steps(template, {}, tmp_path)
