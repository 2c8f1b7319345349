"""Models that other programs keep on this machine as plain files: LM Studio's, llama.cpp's, the Hugging Face cache's.

They are listed and run where they lie: nothing is copied, nothing is written there. (Ollama's are stores like ours; see
`places.py`.) Looking is by names of folders and files; what a file is, its content decides when it is opened.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from .hub_files import MAX_FILES, PREFERRED, SAFETENSORS, Chosen, HubFile, variants_of
from .names import DEFAULT_TAG, HUGGING_FACE, Name

_DEPTH = 4  # folders between a cache's root and a file


@dataclass(frozen=True)
class Found:
    """A model that is not ours. `name` is what `camelid run` takes; `weights` a GGUF file or a folder."""

    name: str
    weights: Path
    size: int
    modified_s: float
    program: str
    repository: str | None = None  # `org/repo`, where the program keeps it
    label: str = ""  # the quantization, or `safetensors`


def discover() -> Iterator[Found]:
    """Yield the models of other programs on this machine; folders that cannot be read are passed over."""
    for folder in _lm_studio_folders():
        yield from _lm_studio(folder)
    for folder in _llama_cpp_folders():
        yield from _loose(folder, "llama.cpp")
    yield from _hugging_face(_hugging_face_cache())


def find_found(name: Name) -> Found | None:
    """Return what `hf.co/org/repo[:quantization]` means among them, if it is there."""
    if name.host != HUGGING_FACE:
        return None
    same = [found for found in discover() if (found.repository or "").lower() == name.repository.lower()]
    labels = {found.label.upper(): found for found in reversed(same)}
    if name.tag != DEFAULT_TAG:
        return labels.get(name.tag.upper())
    return next((labels[label] for label in PREFERRED if label in labels), same[0] if same else None)


def _lm_studio(folder: Path) -> Iterator[Found]:
    """Yield the models under `publisher/repository/`."""
    for repository in _folders(folder, 2):
        yield from _models_in(repository, "/".join(repository.parts[-2:]), "LM Studio")


def _hugging_face(folder: Path) -> Iterator[Found]:
    """Yield the models of the newest snapshot of each repository."""
    for place in _folders(folder, 1):
        parts = place.name.split("--")
        snapshots = list(_folders(place / "snapshots", 1))
        if parts[0] == "models" and len(parts) == 3 and snapshots:
            newest = max(snapshots, key=lambda snapshot: snapshot.stat().st_mtime)
            yield from _models_in(newest, f"{parts[1]}/{parts[2]}", "Hugging Face")


def _models_in(folder: Path, repository: str, program: str) -> Iterator[Found]:
    for label, chosen in _variants(folder).items():
        if chosen.is_gguf or (folder / "config.json").is_file():
            weights = folder if label == SAFETENSORS else folder / chosen.weights[0].path
            yield _found(f"{HUGGING_FACE}/{repository}:{label}", weights, chosen, program, repository)


def _loose(folder: Path, program: str) -> Iterator[Found]:
    """Yield the GGUF files of a folder that says nothing of where they are from: their paths are their names."""
    groups: dict[str, list[HubFile]] = {}
    for file in _files(folder):
        groups.setdefault(file.file_name.partition("-00001-of-")[0].partition("-0000")[0], []).append(file)
    for group in groups.values():
        for chosen in variants_of(group).values():
            if chosen.is_gguf:
                weights = folder / chosen.weights[0].path
                yield _found(str(weights), weights, chosen, program, None)


def _found(name: str, weights: Path, chosen: Chosen, program: str, repository: str | None) -> Found:
    size = sum(file.size for file in chosen.weights)
    return Found(name, weights, size, weights.stat().st_mtime, program, repository, chosen.label)


def _variants(folder: Path) -> dict[str, Chosen]:
    from camelid.errors import RegistryError

    try:
        return variants_of(_files(folder))
    except RegistryError:  # a set of shards that is still arriving
        return {}


def _files(folder: Path) -> list[HubFile]:
    """Return the files with weights below a folder; links whose file is gone are none."""
    found = []
    for path in islice(_walk(folder, _DEPTH), MAX_FILES):
        try:
            size = path.stat().st_size
        except OSError:
            continue
        found.append(HubFile(path.relative_to(folder).as_posix(), size, None, ""))
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.endswith((".gguf", ".safetensors")):
            yield Path(entry.path)
        elif depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), depth - 1)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders at a depth."""
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return
    for path in below:
        yield from _folders(path, depth - 1) if depth > 1 else [path]


def _lm_studio_folders() -> list[Path]:
    """Return where LM Studio keeps models: its settings say it, else one of two places."""
    home = Path.home()
    try:
        named = json.loads((home / ".lmstudio" / "settings.json").read_bytes()).get("downloadsFolder")
    except (OSError, ValueError, AttributeError, RecursionError):
        named = None
    if isinstance(named, str) and named:
        return [Path(named)]
    return [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]


def _llama_cpp_folders() -> list[Path]:
    named = os.environ.get("LLAMA_CACHE")
    if named:
        return [Path(named)]
    if sys.platform == "darwin":
        return [Path.home() / "Library" / "Caches" / "llama.cpp"]
    return [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llama.cpp"]


def _hugging_face_cache() -> Path:
    named = os.environ.get("HF_HUB_CACHE")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HF_HOME") or Path(cache) / "huggingface") / "hub"
