"""A folder that the `truss` tool deploys, in one of two forms.

`class`: Truss's own server runs our `Model` class (`model.py`), which runs Camelid beside itself. `docker`: Truss puts
its proxy in front of an image that has Camelid in it.

Sources: Truss's configuration of version 0.18 and its image builder.
"""

from __future__ import annotations

import enum
import os
import shlex
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from camelid import __version__
from camelid.errors import InvalidRequest

from ..deployment import PORT, Deployment, gibibytes

ENVIRONMENT = "/opt/camelid"  # of Python, in the container
CONCURRENCY = 32  # calls at a time; a thread of Truss's server waits for each, and it has 40
STREAM_SILENCE_S = 600
_EXAMPLE = {"messages": [{"role": "user", "content": "What even is AGI?"}], "max_tokens": 512}


class Form(enum.Enum):
    """Whose server stands in front."""

    CLASS = "class"
    DOCKER = "docker"


@dataclass(frozen=True)
class Packaging:
    """What a Truss says beside the deployment.

    accelerator: in Truss's words, as `A100` or `H100:2`; empty for none. package: what pip installs as Camelid.
    needs_hub_key: the secret hf_access_token is declared, and has to be set then.
    weights: a file that goes into the image; None for a model that is fetched when the container starts.
    """

    form: Form
    accelerator: str
    package: str
    needs_hub_key: bool = False
    weights: Path | None = None


def own_package(*, with_gpu: bool) -> str:
    """Return what pip installs as this version of Camelid."""
    version = "" if "+" in __version__ else f"=={__version__}"  # run from a source tree, there is none
    return f"camelid{'[gpu]' if with_gpu else ''}{version}"


def write_folder(folder: Path, deployed: Deployment, packaging: Packaging) -> list[Path]:
    """Write the folder and return its files. Raises InvalidRequest where something lies there already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} exists already", field="folder", hint="name a folder that is new or empty")
    text = yaml.safe_dump(config(deployed, packaging), sort_keys=False)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "config.yaml"]
    written[0].write_text(text, encoding="utf-8")
    if packaging.form is Form.CLASS:
        (folder / "model").mkdir()
        for name, text in (("__init__.py", ""), ("model.py", _model_class())):
            written.append(folder / "model" / name)
            written[-1].write_text(text, encoding="utf-8")
    if packaging.weights is not None:
        written.append(_put(packaging.weights, folder / "data"))
    return written


def config(deployed: Deployment, packaging: Packaging) -> dict[str, Any]:
    """Return the content of config.yaml."""
    return {
        "model_name": deployed.name,
        "description": f"{deployed.model}, served by Camelid",
        "model_metadata": {"example_model_input": _EXAMPLE, "tags": ["openai-compatible"]},
        **(_own_server(deployed) if packaging.form is Form.DOCKER else _trusses_server(packaging)),
        "environment_variables": _variables(deployed, packaging),
        "secrets": {"hf_access_token": None} if packaging.needs_hub_key else {},
        "resources": _resources(deployed, packaging),
        "runtime": {"predict_concurrency": CONCURRENCY, "streaming_read_timeout": STREAM_SILENCE_S},
    }


def _trusses_server(packaging: Packaging) -> dict[str, Any]:
    install = f"{ENVIRONMENT}/bin/pip install --no-cache-dir {_shell_quoted(packaging.package)}"
    return {"python_version": "py311", "build_commands": [f"python3 -m venv {ENVIRONMENT}", install]}


def _own_server(deployed: Deployment) -> dict[str, Any]:
    """Return Truss's words for a server that it only puts a proxy in front of: nobody else reaches the port."""
    return {
        "base_image": {"image": deployed.image},
        "docker_server": {
            "start_command": f"camelid serve --host 127.0.0.1 --port {PORT}",
            "server_port": PORT,
            "predict_endpoint": "/predict",
            "readiness_endpoint": "/readyz",
            "liveness_endpoint": "/livez",
        },
    }


def _variables(deployed: Deployment, packaging: Packaging) -> dict[str, str]:
    model = deployed.model
    if packaging.weights is not None:
        where = "/app/data" if packaging.form is Form.DOCKER else "data"
        model = f"{where}/{packaging.weights.name}"
    found = {
        "CAMELID_MODEL": model,
        "CAMELID_CONTEXT_LENGTH": str(deployed.context_length),
        "CAMELID_LOG_JSON": "1",
    }
    if packaging.form is Form.CLASS:
        found["CAMELID_COMMAND"] = f"{ENVIRONMENT}/bin/camelid"
    return found


def _resources(deployed: Deployment, packaging: Packaging) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cpu": str(deployed.cpus),
        "memory": f"{gibibytes(deployed.memory_bytes)}Gi",
        "use_gpu": bool(packaging.accelerator),
    }
    if packaging.accelerator:
        found["accelerator"] = packaging.accelerator
    return found


def _model_class() -> str:
    return files(__package__).joinpath("model.py").read_text(encoding="utf-8")


def _put(weights: Path, folder: Path) -> Path:
    """Put the weights into the folder, without a second copy where the file system can do that."""
    folder.mkdir()
    target = folder / weights.name
    try:
        os.link(weights.resolve(), target)
    except OSError:
        shutil.copyfile(weights, target)
    return target


def _shell_quoted(text: str) -> str:
    """Return `text` for the shell of the image's build; it may not break a line of the Dockerfile either."""
    if "\n" in text:
        raise InvalidRequest(f"a package must be named in one line, got {text!r}", field="package")
    return shlex.quote(text)
