"""A deployment as a container group of SaladCloud: consumer GPUs that come and go, behind one gateway.

Pure: a value in, a JSON object out, in the API's spelling of today or in that of older recipes. Source: Salad's public
API and the bounds that it documents.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from camelid.errors import InvalidRequest

from .deployment import PORT, Deployment

READY_FILE = "/tmp/camelid_ready"
GATEWAY_TIMEOUT_MS = 100_000  # the most there is; it counts until the first byte
MOST_FAILURES, LONGEST_PERIOD_S, LONGEST_DELAY_S = 20, 120, 1200
LONGEST_START_S = LONGEST_DELAY_S + MOST_FAILURES * LONGEST_PERIOD_S
LEAST_DISK = 2**30


def container_group(deployed: Deployment, gpu_classes: Sequence[str], *, needs_key: bool = True) -> dict[str, Any]:
    """Return the container group, ready to be sent to Salad's API.

    gpu_classes: identifiers of the kinds of GPU that will do. needs_key: the gateway asks for a Salad-Api-Key. Raises
    InvalidRequest for a model that cannot be fetched within the longest time that a start may take.
    """
    environment = {
        "CAMELID_MODEL": deployed.model,
        "CAMELID_HOST": "::",  # the gateway comes over IPv6
        "CAMELID_INSECURE_NO_KEY": "1",  # nobody but the gateway reaches the port
        "CAMELID_CONTEXT_LENGTH": str(deployed.context_length),
        "CAMELID_READY_FILE": READY_FILE,
        "CAMELID_LOG_JSON": "1",
    }
    return {
        "name": deployed.name,
        "displayName": deployed.name,
        "container": {
            "image": deployed.image,
            "command": [],
            "environmentVariables": environment,
            "imageCaching": True,
            "priority": "high",
            "resources": {
                "cpu": deployed.cpus,
                "memory": max(1024, math.ceil(deployed.memory_bytes / 2**20)),
                "gpuClasses": list(gpu_classes),
                "storageAmount": max(LEAST_DISK, deployed.disk_bytes),
            },
        },
        "autostartPolicy": True,
        "restartPolicy": "always",
        "replicas": deployed.replicas,
        "networking": {
            "protocol": "http",
            "port": PORT,
            "auth": needs_key,
            "loadBalancer": "least_number_of_connections",
            "singleConnectionLimit": False,
            "clientRequestTimeout": GATEWAY_TIMEOUT_MS,
            "serverResponseTimeout": GATEWAY_TIMEOUT_MS,
        },
        "startupProbe": _startup(deployed),
        "livenessProbe": _probe(_http("/livez"), period_s=10, timeout_s=30, failures=3),
        "readinessProbe": _probe({"exec": {"command": ["cat", READY_FILE]}}, period_s=1, timeout_s=1, failures=1),
    }


def older_spelling(group: Any) -> Any:
    """Return a container group with its keys as older recipes write them: `load_balancer` for `loadBalancer`.

    The names of variables stay as they are.
    """
    if isinstance(group, list):
        return [older_spelling(item) for item in group]
    if not isinstance(group, dict):
        return group
    return {
        re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): (
            value if key == "environmentVariables" else older_spelling(value)
        )
        for key, value in group.items()
    }


def _startup(deployed: Deployment) -> dict[str, Any]:
    """Return a probe that leaves the model time to arrive: a replica that fails it begins again on another machine."""
    if deployed.start_s > LONGEST_START_S:
        raise InvalidRequest(
            f"{deployed.model} may take {deployed.start_s} s to arrive, and a start may take {LONGEST_START_S} s here",
            field="model",
            hint="put the model into the image: see docs/deploy/salad.md",
        )
    period_s = min(LONGEST_PERIOD_S, math.ceil(deployed.start_s / MOST_FAILURES))
    delay_s = max(0, deployed.start_s - MOST_FAILURES * period_s)
    return _probe(_http("/startupz"), period_s=period_s, timeout_s=10, failures=MOST_FAILURES, delay_s=delay_s)


def _http(path: str) -> dict[str, Any]:
    return {"http": {"path": path, "port": PORT, "scheme": "http", "headers": []}}


def _probe(what: dict[str, Any], *, period_s: int, timeout_s: int, failures: int, delay_s: int = 0) -> dict[str, Any]:
    return {
        **what,
        "initialDelaySeconds": delay_s,
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "successThreshold": 1,
        "failureThreshold": failures,
    }
