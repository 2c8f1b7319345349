"""Models that are files on this machine: the bundled one by its name, any other by its path or its name in a store.

Finding is by name and place only. What a file is, and whether it is sound, its content decides when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from camelid.errors import InvalidRequest, MissingModel, NotFound

from .discovery import find_found
from .names import parse_name
from .places import find_entry

BUNDLED = "cria"
FOLDERS = ("*.safetensors", "consolidated.*.pth", "merged.*.pth", "original/consolidated.*.pth")  # opened whole
GIVE = (
    f"give `{BUNDLED}` (the bundled model), a model of the store, a GGUF file, or a folder of safetensors or of Meta's"
)


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies. `weights` is a GGUF file or a folder of weights; `name` is what callers call it."""

    name: str
    weights: Path
    is_bundled: bool = False
    system: str = ""  # what its makers tell it before a conversation
    messages: tuple[tuple[str, str], ...] = ()  # a beginning of every conversation, role and text
    parameters: Mapping[str, object] = field(default_factory=dict)  # its makers' own, by Ollama's names
    template: str | None = None  # a Go template, in place of the one in the weights
    licenses: tuple[str, ...] = ()
    requires: str | None = None  # a version of Ollama
    adapters: tuple[Path, ...] = ()  # LoRA, to be merged into the weights in this order


def find(name: str, models: str | None = None) -> ModelFiles:
    """Return the files of a model: `cria`, a path, or a name in the stores (our own in the folder `models`).

    Raises NotFound, with what can be given, StoreError, UnsupportedModel.
    """
    if name == BUNDLED:
        return _bundled()
    path = Path(name).expanduser()
    if path.is_dir():
        return ModelFiles(path.resolve().name, _weights_in(path))
    if path.is_file():
        return ModelFiles(path.stem, path)
    if name.endswith(".gguf") or name.startswith(("/", ".", "~")):
        raise NotFound(f"there is no file {name!r}", hint=GIVE)
    return _stored(name, models)


def find_by_name(name: str, models: str | None = None) -> ModelFiles:
    """Return the files of a model that a caller from outside names: `cria`, or a name in the stores, never a path.

    Raises NotFound, StoreError, UnsupportedModel.
    """
    return _bundled() if name == BUNDLED else _stored(name, models)


def own_name(name: str) -> str:
    """Return what a stored model is called that somebody calls `name`: with its tag. Other names stay as they are."""
    try:
        return name if name == BUNDLED else str(parse_name(name))
    except InvalidRequest:
        return name


def _stored(name: str, models: str | None) -> ModelFiles:
    try:
        wanted = parse_name(name)
    except InvalidRequest as error:
        raise NotFound(f"there is no model or file called {name!r}", hint=GIVE) from error
    try:
        entry = find_entry(wanted, models)
    except MissingModel:
        found = find_found(wanted)  # another program's: run where it lies
        if found is None:
            raise
        return ModelFiles(found.name, found.weights)
    store = entry.store
    weights = store.weights(entry)
    return ModelFiles(
        str(entry.name),
        weights,
        system=store.text(entry, "system"),
        messages=store.messages(entry),
        parameters=store.parameters(entry),
        template=store.template(entry),
        licenses=store.texts(entry, "license"),
        requires=store.requires(entry),
        adapters=store.adapters(entry),
    )


def _bundled() -> ModelFiles:
    path = Path(str(resources.files("camelid") / "bundled" / f"{BUNDLED}.gguf"))
    if not path.is_file():
        raise NotFound(f"the bundled model {BUNDLED} is not in this installation", hint="install camelid again")
    return ModelFiles(BUNDLED, path, is_bundled=True)


def _weights_in(folder: Path) -> Path:
    """Return what to open in a folder: the folder for safetensors, the file where it holds one GGUF file."""
    if any(path for pattern in FOLDERS for path in folder.glob(pattern)):
        return folder
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        listed = ", ".join(file.name for file in files[:5])
        raise NotFound(f"{folder} holds {len(files)} GGUF files ({listed})", hint="give one of the files")
    raise NotFound(f"{folder} holds no safetensors and no GGUF file", hint=GIVE)
