"""Where models lie on this machine: our own store, and those of Ollama, which are read in place and never written."""

from __future__ import annotations

import os
from pathlib import Path

from camelid.errors import MissingModel

from .names import Name
from .store import Entry, Store

OLLAMA_FOLDERS = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")


def own_store(folder: str | None) -> Store:
    """Return our store: in `folder`, or where the system keeps data of users."""
    if folder is None:
        folder = os.path.join(os.environ.get("XDG_DATA_HOME") or "~/.local/share", "camelid", "models")
    return Store(Path(folder).expanduser())


def all_stores(folder: str | None) -> list[Store]:
    """Return our store and those of Ollama that are there."""
    own = own_store(folder)
    named = os.environ.get("OLLAMA_MODELS")
    others = [Path(path).expanduser() for path in ((named,) if named else OLLAMA_FOLDERS)]
    return [own, *(Store(path, is_own=False) for path in others if path.is_dir() and path != own.folder)]


def find_entry(name: Name, folder: str | None) -> Entry:
    """Return a model by its name, from the first store that has it. Raises MissingModel, DamagedManifest."""
    for store in all_stores(folder):
        if store.manifests.find(name) is not None:
            return store.entry(name)
    raise MissingModel(f"there is no model {name} on this machine", hint=f"fetch it: camelid pull {name}")
