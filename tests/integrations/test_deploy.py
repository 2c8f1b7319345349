"""What is written for other places: valid by their own schemas, and with times and sizes that fit together."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from camelid.cli.deploy import command
from camelid.errors import InvalidRequest
from camelid.integrations.deployment import Deployment, name_for
from camelid.integrations.kubernetes import Models, objects
from camelid.integrations.salad import container_group, older_spelling
from camelid.integrations.sizes import sizes_of

LLAMA = Deployment("llama", "llama3.1:8b", "camelid:1", 5 * 2**30, 7 * 2**30, 8192, replicas=3)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def by_kind(made: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["kind"]: one["spec"] for one in made}


@pytest.mark.parametrize("models", list(Models))
def test_kubernetes_accepts_every_object(models: Models) -> None:
    for one in objects(LLAMA, models, storage_class="fast", most=9):
        kubernetes_validate.validate(one, "1.31", strict=True)


def test_a_replica_is_killed_only_after_it_went_on_answering_and_drained() -> None:
    pod = by_kind(objects(LLAMA, Models.CLAIM))["Deployment"]["template"]["spec"]
    (container,) = pod["containers"]
    keeps_answering = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drains = int(next(one["value"] for one in container["env"] if one["name"] == "CAMELID_DRAIN_SECONDS"))
    assert pod["terminationGracePeriodSeconds"] > keeps_answering + drains
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1200


def test_the_volume_holds_the_model_and_is_shared_where_replicas_share_it() -> None:
    claim = by_kind(objects(LLAMA, Models.CLAIM))["PersistentVolumeClaim"]
    assert claim == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "6Gi"}}}
    alone = Deployment("llama", "m", "i", 2**30, 2**30, 512, replicas=1)
    kinds = by_kind(objects(alone, Models.CLAIM))
    assert kinds["PersistentVolumeClaim"]["accessModes"] == ["ReadWriteOnce"]
    assert kinds.keys() == {"PersistentVolumeClaim", "Service", "Deployment"}
    assert "PersistentVolumeClaim" not in by_kind(objects(alone, Models.EPHEMERAL))


def test_the_command_finds_the_sizes_of_a_model_that_is_here() -> None:
    made = by_kind(list(yaml.safe_load_all(run("kubernetes", "cria", "--context-length", "512"))))
    (container,) = made["Deployment"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "4", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    weights, memory = sizes_of("cria", 512)
    assert 3 * 2**20 < weights < memory < 2**30


def test_salad_s_probes_stay_within_its_bounds_and_give_the_model_time() -> None:
    for size in (2**20, 5 * 2**30, 30 * 10**9):
        large = Deployment("large", "m", "i", size, size, 512)
        startup = container_group(large, ())["startupProbe"]
        delay, period, failures = (
            startup[f"{key}"] for key in ("initialDelaySeconds", "periodSeconds", "failureThreshold")
        )
        assert 0 <= delay <= 1200
        assert 1 <= period <= 120
        assert failures == 20
        assert delay + period * failures >= large.start_s
    with pytest.raises(InvalidRequest, match="may take"):
        container_group(Deployment("large", "m", "i", 40 * 10**9, 2**30, 512), ())


def test_salad_s_group_in_both_spellings() -> None:
    arguments = (
        "salad",
        "llama3.1:8b",
        "--model-size",
        "5GiB",
        "--memory",
        "7GiB",
        "--gpu-class",
        "a",
        "--replicas",
        "5",
    )
    group = json.loads(run(*arguments))
    older = json.loads(run(*arguments, "--older-spelling"))
    assert (group["name"], group["replicas"], group["networking"]["auth"]) == ("llama3-1-8b", 5, True)
    assert older == older_spelling(group)
    assert older["networking"]["load_balancer"] == "least_number_of_connections"
    assert older["container"]["environment_variables"] == group["container"]["environmentVariables"]
    assert group["container"]["environmentVariables"]["CAMELID_HOST"] == "::"
    assert group["container"]["resources"] == {
        "cpu": 4,
        "memory": 7168,
        "gpuClasses": ["a"],
        "storageAmount": 6 * 2**30,
    }


@pytest.mark.parametrize(
    ("model", "name"),
    [("llama3.1:8b", "llama3-1-8b"), ("hf.co/Org/Repo-GGUF:Q4_K_M", "repo-gguf-q4-k-m"), ("70b", "model-70b")],
)
def test_deployments_are_named_after_their_models(model: str, name: str) -> None:
    assert name_for(model) == name


def test_a_name_that_no_place_takes_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="2–63 letters"):
        Deployment("Bad_Name", "m", "i", 1, 1, 1)
