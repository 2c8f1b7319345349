"""A pod for a Flyte task: a model server as a sidecar, and what has to end before the task begins.

The names, arguments and properties are those of Flyte's own plugin. The pod itself is a plain dictionary; it becomes
objects of flytekit and the Kubernetes client only where those are installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from typing import Any

from camelid.errors import InvalidRequest

from ..deployment import DRAIN_S
from ..kubernetes import MODELS, USER, Object
from .objects import downloader_image, pod_template

PROBE_S = 5
SHARED, TEMPORARY = "/shared", "/tmp"
INPUTS = f"{SHARED}/inputs.json"
MOUNTS = [{"name": "shared-data", "mountPath": SHARED}, {"name": "tmp", "mountPath": TEMPORARY}]
RESTRICTED: Object = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class ModelInferenceTemplate:
    """A pod with the container `model-server` beside the task's own.

    Sizes are Kubernetes' quantities. health_endpoint: a path that answers 200 when the server has started; start-up and
    liveness are judged by it, readiness by `ready_endpoint`. start_s: how long a start may take. secrets: variables
    whose values come from a Kubernetes secret, as (name, key). cache_claim: a volume claim in which models stay, so
    that the next pod finds them; without it they go with the pod and count as `ephemeral_storage`.
    """

    def __init__(
        self,
        image: str | None = None,
        health_endpoint: str | None = None,
        port: int = 8000,
        cpu: int = 1,
        gpu: int = 1,
        mem: str = "1Gi",
        ephemeral_storage: str = "1Gi",
        env: Mapping[str, str] | None = None,
        download_inputs: bool = False,
        download_inputs_mem: str = "500Mi",
        download_inputs_cpu: int = 2,
        *,
        ready_endpoint: str | None = None,
        start_s: int = 1000,
        secrets: Mapping[str, tuple[str, str]] | None = None,
        cache_claim: str | None = None,
        download_inputs_image: str | None = None,
    ) -> None:
        if env is not None and not isinstance(env, dict):
            raise ValueError("env must be a dict.")
        if not 1 <= port <= 65535:
            raise InvalidRequest(f"port must be 1–65535, got {port}", field="port")
        self._image = image
        self._health_endpoint = health_endpoint
        self._ready_endpoint = ready_endpoint
        self._port = port
        self._cpu = cpu
        self._gpu = gpu
        self._mem = mem
        self._ephemeral_storage = ephemeral_storage
        self._env = env
        self._secrets = secrets or {}
        self._start_s = start_s
        self._cache_claim = cache_claim
        self._download_inputs = download_inputs
        self._download_inputs_mem = download_inputs_mem
        self._download_inputs_cpu = download_inputs_cpu
        self._download_inputs_image = download_inputs_image

    @property
    def base_url(self) -> str:
        """Where the task finds the server."""
        return f"http://localhost:{self._port}"

    @cached_property
    def pod_template(self) -> Any:
        """The pod as flytekit's PodTemplate; a plain dictionary where flytekit is not installed."""
        return pod_template(self.pod())

    def pod(self) -> Object:
        """Return the pod's specification in Kubernetes' own JSON."""
        pod: Object = {"containers": [], "initContainers": self._steps(), "volumes": self._volumes()}
        if self._cache_claim is not None:
            pod["securityContext"] = {"fsGroup": USER}  # a new volume belongs to root
        return pod

    def _steps(self) -> list[Object]:
        return [self._server(), *([self._downloader()] if self._download_inputs else [])]

    def _volumes(self) -> list[Object]:
        models: Object = {"name": "models", "emptyDir": {}}
        if self._cache_claim is not None:
            models = {"name": "models", "persistentVolumeClaim": {"claimName": self._cache_claim}}
        return [{"name": "shared-data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}, models]

    def _server(self) -> Object:
        need = resources(self._cpu, self._mem, self._gpu, self._ephemeral_storage)
        server: Object = {
            "name": "model-server",
            "image": self._image,
            "ports": [{"containerPort": self._port}],
            "resources": {"requests": need, "limits": need},
            "restartPolicy": "Always",  # makes a sidecar of it, from Kubernetes 1.29 on
            "volumeMounts": [{"name": "models", "mountPath": MODELS}, {"name": "tmp", "mountPath": TEMPORARY}],
        }
        variables: list[Object] = [{"name": name, "value": value} for name, value in (self._env or {}).items()]
        for name, (secret, key) in self._secrets.items():
            variables.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
        return server | ({"env": variables} if variables else {}) | self._probes()

    def _probes(self) -> Object:
        probes: Object = {}
        if self._health_endpoint is not None:
            tries = math.ceil(self._start_s / PROBE_S)
            probes["startupProbe"] = self._probe(self._health_endpoint, tries)
            probes["livenessProbe"] = self._probe(self._health_endpoint, math.ceil(DRAIN_S / PROBE_S))
        if self._ready_endpoint is not None:
            probes["readinessProbe"] = self._probe(self._ready_endpoint, 2)
        return probes

    def _probe(self, path: str, failures: int) -> Object:
        get = {"path": path, "port": self._port}
        return {"httpGet": get, "periodSeconds": PROBE_S, "timeoutSeconds": PROBE_S, "failureThreshold": failures}

    def _downloader(self) -> Object:
        need = resources(self._download_inputs_cpu, self._download_inputs_mem)
        program = files("camelid.integrations.flyte").joinpath("download_inputs.py").read_text("utf-8")
        return {
            "name": "input-downloader",
            "image": self._download_inputs_image or downloader_image(),
            "command": ["python3", "-c"],
            "args": [program, INPUTS, "{{.input}}"],  # Flyte writes there where the task's inputs lie
            "resources": {"requests": need, "limits": need},
            "volumeMounts": MOUNTS,
        }


def resources(cpu: int | str, mem: str, gpu: int = 0, ephemeral_storage: str | None = None) -> dict[str, str]:
    """Return quantities for a container; no word of GPUs where there are none."""
    found = {"cpu": str(cpu), "memory": mem}
    if gpu:
        found["nvidia.com/gpu"] = str(gpu)
    if ephemeral_storage is not None:
        found["ephemeral-storage"] = ephemeral_storage
    return found
