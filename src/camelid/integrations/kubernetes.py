"""A deployment in Kubernetes' words: what `kubectl apply` takes.

Pure: a value in, objects out. The probes mean what `server/health.py` says; the times fit together so that a replica
that leaves cuts no answer: it goes on answering while balancers notice, drains, and only then may it be killed.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

from .deployment import DRAIN_S, KEEP_ANSWERING_S, PORT, Deployment, gibibytes

Object = dict[str, Any]

PROBE_S = 10
USER = 10001
MODELS = "/models"
LEAVING_MARGIN_S = 10
IN_FLIGHT, TARGET_IN_FLIGHT = "camelid_num_requests_in_flight", 8  # the metric that replicas are added by


class Models(Enum):
    """Where the replicas have the model from."""

    CLAIM = "claim"  # a volume that all of them share, filled by the first
    EPHEMERAL = "ephemeral"  # each fetches it to a volume that goes with it
    IMAGE = "image"  # it lies in the container image


def objects(deployed: Deployment, models: Models, *, storage_class: str | None = None, most: int = 0) -> list[Object]:
    """Return the objects of a deployment. `most`: replicas that load may bring it to; no autoscaler unless it is more
    than there are anyway.
    """
    made = [_service(deployed), _deployment(deployed, models)]
    if models is Models.CLAIM:
        made.insert(0, _claim(deployed, storage_class))
    if deployed.replicas > 1:
        made.append(_disruption_budget(deployed))
    if most > deployed.replicas:
        made.append(_autoscaler(deployed, most))
    return made


def _labels(deployed: Deployment) -> dict[str, str]:
    return {"app.kubernetes.io/name": "camelid", "app.kubernetes.io/instance": deployed.name}


def _object(deployed: Deployment, version: str, kind: str, spec: Object) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": deployed.name, "labels": _labels(deployed)},
        "spec": spec,
    }


def _claim(deployed: Deployment, storage_class: str | None) -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteMany" if deployed.replicas > 1 else "ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{gibibytes(deployed.disk_bytes)}Gi"}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return _object(deployed, "v1", "PersistentVolumeClaim", spec)


def _service(deployed: Deployment) -> Object:
    ports = [{"name": "http", "port": PORT, "targetPort": "http"}]
    return _object(deployed, "v1", "Service", {"selector": _labels(deployed), "ports": ports})


def _deployment(deployed: Deployment, models: Models) -> Object:
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"}
    spec = {
        "replicas": deployed.replicas,
        "selector": {"matchLabels": _labels(deployed)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": deployed.start_s + 600,
        "template": {
            "metadata": {"labels": _labels(deployed), "annotations": annotations},
            "spec": _pod(deployed, models),
        },
    }
    return _object(deployed, "apps/v1", "Deployment", spec)


def _pod(deployed: Deployment, models: Models) -> Object:
    pod: Object = {
        "terminationGracePeriodSeconds": KEEP_ANSWERING_S + DRAIN_S + LEAVING_MARGIN_S,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(deployed, models)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if models is Models.CLAIM:
        pod["volumes"].append({"name": "models", "persistentVolumeClaim": {"claimName": deployed.name}})
    elif models is Models.EPHEMERAL:
        limit = f"{gibibytes(deployed.disk_bytes)}Gi"
        pod["volumes"].append({"name": "models", "emptyDir": {"sizeLimit": limit}})
    return pod


def _container(deployed: Deployment, models: Models) -> Object:
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    if models is not Models.IMAGE:
        mounts.append({"name": "models", "mountPath": MODELS})
    key = {"secretKeyRef": {"name": deployed.name, "key": "api-key"}}
    return {
        "name": "camelid",
        "image": deployed.image,
        "args": ["serve", deployed.model, "--context-length", str(deployed.context_length)],
        "env": [
            {"name": "CAMELID_HOST", "value": "::"},
            {"name": "CAMELID_MODELS", "value": MODELS},
            {"name": "CAMELID_DRAIN_SECONDS", "value": str(DRAIN_S)},
            {"name": "CAMELID_LOG_JSON", "value": "1"},
            {"name": "CAMELID_API_KEY", "valueFrom": key},
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": _resources(deployed),
        "startupProbe": _probe("/startupz", PROBE_S, math.ceil(deployed.start_s / PROBE_S)),
        "livenessProbe": _probe("/livez", PROBE_S, 3),
        "readinessProbe": _probe("/readyz", 1, 2),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(KEEP_ANSWERING_S)]}}},
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _resources(deployed: Deployment) -> Object:
    memory = f"{gibibytes(deployed.memory_bytes)}Gi"
    requests: dict[str, str] = {"cpu": str(deployed.cpus), "memory": memory}
    limits = {"memory": memory}  # none for processors: a throttled engine is slower than a busy one
    if deployed.gpus:
        limits["nvidia.com/gpu"] = str(deployed.gpus)
    return {"requests": requests, "limits": limits}


def _probe(path: str, period_s: int, failures: int) -> Object:
    probe = {"httpGet": {"path": path, "port": "http"}, "periodSeconds": period_s, "timeoutSeconds": 5}
    return {**probe, "failureThreshold": failures}


def _disruption_budget(deployed: Deployment) -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _labels(deployed)}}
    return _object(deployed, "policy/v1", "PodDisruptionBudget", spec)


def _autoscaler(deployed: Deployment, most: int) -> Object:
    metric = {
        "type": "Pods",
        "pods": {
            "metric": {"name": IN_FLIGHT},
            "target": {"type": "AverageValue", "averageValue": str(TARGET_IN_FLIGHT)},
        },
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployed.name},
        "minReplicas": deployed.replicas,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},  # a model takes minutes to load again
    }
    return _object(deployed, "autoscaling/v2", "HorizontalPodAutoscaler", spec)
