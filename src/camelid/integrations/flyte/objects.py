"""A pod in JSON as the objects that flytekit takes. Knows nothing of models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ..kubernetes import Object

FALLBACK_IMAGE = "ghcr.io/flyteorg/flytekit:py3.11-1.16.31"


def has_flytekit() -> bool:
    """Say whether flytekit and the Kubernetes client, which it brings, are installed."""
    return find_spec("flytekit") is not None and find_spec("kubernetes") is not None


def pod_template(pod: Object) -> Any:
    """Return a pod as flytekit's PodTemplate, or its plain form where flytekit is not installed."""
    if not has_flytekit():
        return {"primary_container_name": "primary", "pod_spec": pod}
    from flytekit import PodTemplate

    return PodTemplate(pod_spec=pod_spec(pod))


def pod_spec(pod: Object) -> Any:
    """Return a pod as an object of the Kubernetes client."""
    from kubernetes.client import ApiClient, V1PodSpec

    if hasattr(V1PodSpec, "from_dict"):  # from 36 on
        return V1PodSpec.from_dict(pod)
    with ApiClient() as client:
        return client.deserialize(_Answer(json.dumps(pod)), "V1PodSpec")


def downloader_image() -> str:
    """Return an image with flytekit in it: the one that tasks run in where none is named."""
    if not has_flytekit():
        return FALLBACK_IMAGE
    from flytekit.configuration.default_images import DefaultImages

    return str(DefaultImages.default_image())


@dataclass(frozen=True)
class _Answer:
    """What the client's reader of JSON expects: an answer of the cluster."""

    data: str
