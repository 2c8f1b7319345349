"""The pod beside a Flyte task: valid by Kubernetes' schema, sized by its model, and with inputs filled in safely."""

from __future__ import annotations

import base64
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.errors import BadModelfile, InvalidRequest
from camelid.integrations.flyte import Model, ModelInferenceTemplate, Ollama
from camelid.integrations.flyte.inputs import fill_in, is_dynamic
from camelid.store.modelfile import parse_modelfile

DYNAMIC = 'FROM {inputs.gguf}\nPARAMETER temperature {inputs.temperature}\nTEMPLATE """{{ .Prompt }}"""'


def steps(template: ModelInferenceTemplate) -> dict[str, Any]:
    return {one["name"]: one for one in template.pod()["initContainers"]}


@pytest.mark.parametrize(
    "template",
    [
        Ollama(model=Model("llama3.1:8b")),
        Ollama(model=Model("mine", modelfile="FROM llama3.1:8b"), gpu=0, cache_claim="models"),
        Ollama(model=Model("mine", modelfile=DYNAMIC), secrets={"HF_TOKEN": ("hub", "token")}, env={"A": "b"}),
        ModelInferenceTemplate(image="server:1", health_endpoint="/health", env={"A": "b"}),
    ],
)
def test_kubernetes_accepts_the_pod(template: ModelInferenceTemplate) -> None:
    pod = template.pod() | {"containers": [{"name": "primary", "image": "task:1"}]}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "task"}, "spec": pod}
    kubernetes_validate.validate(whole, "1.31", strict=True)


def test_names_defaults_and_properties_are_those_of_flyte_s_plugin() -> None:
    made = Ollama(model=Model(name="mistral-nemo"))
    assert made.base_url == "http://localhost:11434"
    assert (made._port, made._cpu, made._gpu, made._mem) == (11434, 1, 1, "15Gi")
    assert (made._model_name, made._model_cpu, made._model_mem) == ("mistral-nemo", 1, "500Mi")
    assert list(steps(made)) == ["model-server", "pull-model"]
    assert list(steps(Ollama(model=Model("m", modelfile="FROM x")))) == ["model-server", "create-model"]
    dynamic = Ollama(model=Model("m", modelfile=DYNAMIC))
    assert list(steps(dynamic)) == ["model-server", "input-downloader", "create-model"]
    assert dynamic.pod_template["primary_container_name"] == "primary"  # flytekit is not installed here
    with pytest.raises(ValueError, match="env must be a dict"):
        ModelInferenceTemplate(env="A=b")  # type: ignore[arg-type]


def test_no_gpu_is_asked_for_where_there_is_none() -> None:
    assert steps(Ollama(model=Model("m"), gpu=0))["model-server"]["resources"]["limits"].keys() == {
        "cpu",
        "memory",
        "ephemeral-storage",
    }
    assert steps(Ollama(model=Model("m"), gpu=2))["model-server"]["resources"]["limits"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    ("model", "mem", "disk", "deadline_s"),
    [
        (Model("llama3.1:8b"), "15Gi", "7Gi", "1200"),
        (Model("llama3.1:70b-instruct-fp16"), "15Gi", "160Gi", "14295"),
        (Model("mistral-nemo"), "15Gi", "19Gi", "1731"),  # the name does not tell: as much as fits into the memory
        (Model("mistral-nemo", size="7GB", deadline_s=60), "15Gi", "9Gi", "60"),
    ],
)
def test_disk_and_deadline_follow_from_the_model(model: Model, mem: str, disk: str, deadline_s: str) -> None:
    found = steps(Ollama(model=model, mem=mem))
    assert found["model-server"]["resources"]["requests"]["ephemeral-storage"] == disk
    arguments = found["pull-model"]["args"]
    assert arguments[arguments.index("--deadline-seconds") + 1] == deadline_s


def test_models_that_stay_in_a_claim_take_no_disk_of_the_pod() -> None:
    made = Ollama(model=Model("llama3.1:70b"), cache_claim="models")
    assert steps(made)["model-server"]["resources"]["limits"]["ephemeral-storage"] == "1Gi"
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "models"}} in made.pod()["volumes"]


def test_no_step_is_root_or_reads_a_shell() -> None:
    for name, step in steps(Ollama(model=Model("m", modelfile=DYNAMIC))).items():
        assert "sh" not in " ".join(step.get("command", ())), name
        if name != "input-downloader":  # its image is flytekit's
            assert step["securityContext"]["runAsNonRoot"], name


def test_a_modelfile_arrives_as_it_was_written() -> None:
    text = 'FROM "a"\nSYSTEM """$(HOME) `x` {{.input}} "quoted" {"a": 1}"""'
    arguments = steps(Ollama(model=Model("m", modelfile=text)))["create-model"]["args"]
    sent = arguments[arguments.index("--modelfile-base64") + 1]
    assert base64.b64decode(sent).decode() == text
    assert not set(sent) & set("${}`\"'")


def test_ollama_s_own_image_gets_its_model_from_ours() -> None:
    found = steps(Ollama(model=Model("m"), image="ollama/ollama:0.17.6"))
    assert found["model-server"]["image"] == "ollama/ollama:0.17.6"
    assert found["pull-model"]["image"].startswith("camelid:")
    ours = steps(Ollama(model=Model("m"), image="registry.example/camelid:1"))
    assert ours["pull-model"]["image"] == "registry.example/camelid:1"


def test_what_cannot_be_is_refused_when_the_template_is_made() -> None:
    with pytest.raises(InvalidRequest, match="'much' is no size"):
        Ollama(model=Model("m"), mem="much")
    with pytest.raises(InvalidRequest, match="size '1 elephant'"):
        Ollama(model=Model("m", size="1 elephant"))


VALUES = {"a": 1, "t": 0.25, "deep": {"er": {"x": "y"}, "list": [{"k": "v"}, 2]}, "yes": True, "none": None}


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("{inputs.a} {inputs[a]} {inputs.t:.1f} {inputs.yes} {inputs.none}", "1 1 0.2 True None"),
        ("{inputs.deep.er.x} {inputs.deep.list[0].k} {inputs.deep[list][1]}", "y v 2"),
        ("{inputs.deep.er}", '{"x": "y"}'),
        ('{"json": {"deep": {inputs.a}}}', '{"json": {"deep": 1}}'),
        ("{{ if .System }}{{ .System }}{{ end }} {x}", "{{ if .System }}{{ .System }}{{ end }} {x}"),
        ("{{inputs.a}} {{{inputs.a}}}", "{{inputs.a}} {{1}}"),
    ],
)
def test_inputs_are_filled_in_and_all_else_stays(written: str, filled: str) -> None:
    assert fill_in(f"FROM x\nSYSTEM {written}", VALUES) == f"FROM x\nSYSTEM {filled}"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{inputs.b}", "line 2: there is no inputs.b"),
        ("{inputs.deep.b}", "line 2: there is no inputs.deep.b"),
        ("{inputs.deep.list[7]}", r"line 2: there is no inputs.deep.list\[7\]"),
        ("{inputs.a.__class__.__mro__}", "there is no inputs.a.__class__"),
        ("{inputs.__init__.__globals__}", "there is no inputs.__init__"),
        ("{inputs.a:{inputs.t}}", "is not closed"),
        ("{inputs.deep:.2f}", "cannot be written so"),
    ],
)
def test_an_input_that_is_not_there_is_named(written: str, said: str) -> None:
    with pytest.raises(BadModelfile, match=said):
        fill_in(f"FROM x\nSYSTEM {written}", VALUES)


def test_a_value_cannot_become_an_instruction() -> None:
    with pytest.raises(BadModelfile, match="would change the instructions"):
        fill_in('FROM x\nSYSTEM """{inputs.s}"""', {"s": 'a"""\nADAPTER /etc/passwd\nSYSTEM """'})
    whole = "FROM x\nSYSTEM y"
    assert fill_in("{inputs.modelfile}\n", {"modelfile": whole}) == whole + "\n"


@given(st.text(st.characters(exclude_characters='"\r', exclude_categories=["Cs"])))
def test_any_value_arrives_whole_between_three_quotes(value: str) -> None:
    filled = fill_in('FROM x\nSYSTEM """{inputs.s}"""', {"s": value})
    assert parse_modelfile(filled).system == value
    assert not is_dynamic("FROM x\nSYSTEM plain {x}")
