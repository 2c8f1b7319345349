"""A Truss folder as it lies on disk: its configuration, checked, and where its parts are. Nothing of it is run here.

Source: Truss's configuration of version 0.18.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from camelid.errors import InvalidRequest, NotFound

_SECRETS = Path("/secrets")
_MAX_CONFIG_BYTES = 2**20
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class TrussFolder:
    """A folder with `config.yaml` and a Model class."""

    path: Path
    config: Mapping[str, Any]
    predict_concurrency: int = 1
    streaming_read_timeout_s: float = 60.0

    @property
    def model_file(self) -> Path:
        """The file with the class."""
        return self.path / self._text("model_module_dir", "model") / self._text("model_class_filename", "model.py")

    @property
    def class_name(self) -> str:
        """The name of the class."""
        return self._text("model_class_name", "Model")

    @property
    def data(self) -> Path:
        """The folder of files that go along."""
        return self.path / self._text("data_dir", "data")

    @property
    def packages(self) -> list[Path]:
        """Folders that the class may import from."""
        more = self.config.get("external_package_dirs") or []
        folders = [self.path / self._text("bundled_packages_dir", "packages"), *(self.path / str(one) for one in more)]
        return [folder.resolve() for folder in folders if folder.is_dir()]

    @property
    def variables(self) -> dict[str, str]:
        """Variables of the environment that the class is to see."""
        given = self.config.get("environment_variables") or {}
        return {str(name): str(value) for name, value in given.items()}

    def stamp(self) -> Stamp:
        """Return what changes when a file of the folder does: names, sizes, and when they were written."""
        return tuple(sorted(_files(self.path)))

    def _text(self, key: str, usual: str) -> str:
        return str(self.config.get(key) or usual)


def read_folder(path: Path) -> TrussFolder:
    """Return the folder. Raises NotFound where it is none, InvalidRequest for what is not served here."""
    file = path / "config.yaml"
    try:
        if file.stat().st_size > _MAX_CONFIG_BYTES:
            raise InvalidRequest(f"{file} must have at most {_MAX_CONFIG_BYTES} bytes")
        config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise NotFound(f"{path} is no Truss folder: {error.strerror}: config.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise InvalidRequest(f"{file} must hold names and values")
    if config.get("docker_server"):
        raise InvalidRequest(
            f"{file} is about a server in an image (docker_server), and has no Model class to serve",
            hint="run its start_command",
        )
    return _checked(path, file, config)


def _checked(path: Path, file: Path, config: dict[str, Any]) -> TrussFolder:
    runtime = config.get("runtime") or {}
    if not isinstance(runtime, dict):
        raise InvalidRequest(f"runtime in {file} must hold names and values, got {runtime!r}")
    concurrency, silence = runtime.get("predict_concurrency") or 1, runtime.get("streaming_read_timeout") or 60
    if not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequest(f"predict_concurrency in {file} must be at least 1, got {concurrency!r}")
    if not isinstance(silence, (int, float)) or silence <= 0:
        raise InvalidRequest(f"streaming_read_timeout in {file} must be above 0, got {silence!r}")
    folder = TrussFolder(path.resolve(), config, concurrency, float(silence))
    if not folder.model_file.is_file():
        raise NotFound(f"{folder.model_file} is not there", hint=f"{file} says where the Model class is")
    return folder


class Secrets(Mapping[str, str]):
    """The secrets that a folder declares, read when they are asked for: a variable or a file each, as in Truss."""

    def __init__(self, declared: Mapping[str, Any] | None) -> None:
        self._declared = dict(declared or {})

    def __getitem__(self, name: str) -> str:
        """Return a secret: the file /secrets/NAME, else TRUSS_SECRET_NAME, else what the configuration says."""
        if name not in self._declared:
            raise KeyError(f"secret {name!r} is not declared under `secrets` in config.yaml")
        file = _SECRETS / name
        value = os.environ.get(f"TRUSS_SECRET_{name}", self._declared[name])
        if file.is_file():
            value = file.read_text(encoding="utf-8")
        if not value:
            raise KeyError(f"secret {name!r} is not set; TRUSS_SECRET_{name} would set it")
        return str(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            if name.startswith("."):
                continue
            try:
                found = os.stat(os.path.join(root, name))
            except FileNotFoundError:  # an editor writes beside a file and then puts the new one in its place
                continue
            yield os.path.join(root, name), found.st_mtime_ns, found.st_size
