"""The class that Flyte's users know as `Ollama`: a server with one model, fetched or made before the task begins.

How much disk and time that takes follows from the model's size: as given, as its name says (`8b`), or at most as
much as the server's memory.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from camelid import __version__
from camelid.errors import InvalidRequest
from camelid.settings import parse_bytes

from ..deployment import DISK_SHARE, LOADING_S, SLOWEST_FETCH, gibibytes
from ..kubernetes import MODELS, Object
from .inputs import is_dynamic
from .template import INPUTS, MOUNTS, RESTRICTED, ModelInferenceTemplate, resources

IMAGE = f"camelid:{__version__}"
SERVER_START_S = 300  # pulling the image is not part of it
LEAST_DEADLINE_S = 1200
# Bits of a weight, block scales and all, by what tags call the type; Ollama's tags without one are Q4_K_M.
BITS = {"q2": 3.4, "q3": 4.0, "q4": 4.9, "q5": 5.7, "q6": 6.6, "q8": 8.6, "fp16": 16.2, "f16": 16.2, "bf16": 16.2}
USUAL_BITS = BITS["q4"]

_BILLIONS = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)
_TYPE = re.compile(r"(?<![a-z0-9])(q[2-8]|bf16|fp16|f16)(?![a-z0-9])", re.IGNORECASE)
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_OLLAMAS_OWN = re.compile(r"(?:.*/)?ollama/ollama(?:[:@].*)?")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass
class Model:
    """A model that a task needs. `modelfile`: how it is made; without one it is fetched by its name.

    `mem` and `cpu` are those of the container that sees to it. size: of the weights, such as "4.9GB", where the name
    does not tell. deadline_s: how long fetching or making may take; follows from the size.
    """

    name: str
    mem: str = "500Mi"
    cpu: int = 1
    modelfile: str | None = None
    size: str | None = None
    deadline_s: int | None = None

    def size_bytes(self) -> int | None:
        """Return the size of the weights: as given, or as the name tells."""
        if self.size is not None:
            try:
                return parse_bytes(self.size)
            except ValueError as error:
                raise InvalidRequest(f"size {self.size!r} {error}", field="size") from error
        billions = _BILLIONS.search(self.name)
        if billions is None:
            return None
        kind = _TYPE.search(self.name.replace("_", "-"))
        return math.ceil(float(billions[1]) * 10**9 * (BITS[kind[1].lower()] if kind else USUAL_BITS) / 8)


class Ollama(ModelInferenceTemplate):
    """A pod whose server has `model` before the task begins.

    ephemeral_storage: disk of the pod; follows from the model's size. image: Camelid's or Ollama's own.
    provisioning_image: one with Camelid, for the step that gives the server its model; `image`, where that is one.
    Everything else as in ModelInferenceTemplate.
    Raises InvalidRequest for a size that is none.
    """

    def __init__(
        self,
        *,
        model: Model,
        image: str = IMAGE,
        port: int = 11434,
        cpu: int = 1,
        gpu: int = 1,
        mem: str = "15Gi",
        download_inputs_mem: str = "500Mi",
        download_inputs_cpu: int = 2,
        ephemeral_storage: str | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, tuple[str, str]] | None = None,
        cache_claim: str | None = None,
        health_endpoint: str = "/",
        ready_endpoint: str = "/",
        provisioning_image: str | None = None,
        download_inputs_image: str | None = None,
    ) -> None:
        self._model_name = model.name
        self._model_mem = model.mem
        self._model_cpu = model.cpu
        self._model_modelfile = model.modelfile
        self._model_bytes = model.size_bytes() or quantity_bytes(mem)
        self._deadline_s = model.deadline_s or _deadline_s(self._model_bytes)
        self._provisioning_image = provisioning_image or (IMAGE if _OLLAMAS_OWN.fullmatch(image) else image)
        disk = "1Gi" if cache_claim else f"{gibibytes(math.ceil(self._model_bytes * DISK_SHARE)) + 1}Gi"
        super().__init__(
            image=image,
            health_endpoint=health_endpoint,
            ready_endpoint=ready_endpoint,
            port=port,
            cpu=cpu,
            gpu=gpu,
            mem=mem,
            ephemeral_storage=ephemeral_storage or disk,
            env={**_environment(port), **(env or {})},
            secrets=secrets,
            cache_claim=cache_claim,
            start_s=SERVER_START_S,
            download_inputs=model.modelfile is not None and is_dynamic(model.modelfile),
            download_inputs_mem=download_inputs_mem,
            download_inputs_cpu=download_inputs_cpu,
            download_inputs_image=download_inputs_image,
        )

    def _server(self) -> Object:
        return super()._server() | {"securityContext": RESTRICTED}

    def _steps(self) -> list[Object]:
        return [*super()._steps(), self._provisioner()]

    def _provisioner(self) -> Object:
        need = resources(self._model_cpu, self._model_mem)
        arguments = ["provision", self._model_name, "--server", self.base_url]
        arguments += ["--deadline-seconds", str(self._deadline_s)]
        if self._model_modelfile is not None:
            # In base64, because Kubernetes and Flyte both replace what looks like a variable in an argument.
            text = base64.b64encode(self._model_modelfile.encode()).decode()
            arguments += ["--modelfile-base64", text]
        if self._download_inputs:
            arguments += ["--inputs", INPUTS]
        return {
            "name": "pull-model" if self._model_modelfile is None else "create-model",
            "image": self._provisioning_image,
            "command": ["camelid"],
            "args": arguments,
            "env": [{"name": "HOME", "value": "/tmp"}],
            "resources": {"requests": need, "limits": need},
            "volumeMounts": MOUNTS,
            "securityContext": RESTRICTED,
        }


def quantity_bytes(quantity: str) -> int:
    """Return a quantity of Kubernetes, such as 15Gi, in bytes. Raises InvalidRequest."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise InvalidRequest(f"{quantity!r} is no size as Kubernetes writes it", field="mem", hint="such as 15Gi")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def _deadline_s(model_bytes: int) -> int:
    return max(LEAST_DEADLINE_S, math.ceil(model_bytes / SLOWEST_FETCH) + LOADING_S)


def _environment(port: int) -> dict[str, str]:
    """Return how the server is started: each variable is one of Camelid's, or one that Ollama's image has as well."""
    return {
        "OLLAMA_HOST": f"[::]:{port}",  # the probes come from outside of the pod
        "CAMELID_INSECURE_NO_KEY": "1",  # as with the original; a NetworkPolicy keeps other pods away
        "CAMELID_MODELS": MODELS,
        "OLLAMA_MODELS": f"{MODELS}/ollama",
        "OLLAMA_KEEP_ALIVE": "-1",  # the model is loaded before the task's own image may have been fetched
        "CAMELID_LOG_JSON": "1",
        "HOME": "/tmp",
    }
