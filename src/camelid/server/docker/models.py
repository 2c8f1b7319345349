"""What Docker Model Runner tells of models, and which model a reference means. Pure, over entries of stores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from camelid.errors import InvalidRequest, NotFound
from camelid.store.names import DOCKER, Name, parse_name
from camelid.store.store import Entry

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12}|[0-9a-f]{64})", re.ASCII)


def identity(entry: Entry) -> str:
    """Return the id: the digest of the manifest."""
    return str(entry.manifest.digest)


def grouped(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return entries with the same content together in the order of their names; the newest content first."""
    found: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: -entry.modified_s):
        found.setdefault(identity(entry), []).append(entry)
    return [sorted(same, key=lambda entry: entry.name) for same in found.values()]


def dockers_name(reference: str) -> Name:
    """Return the name that a reference means to Docker: `llama3.1` is `ai/llama3.1`, and only a tag has capitals.

    Registries of this machine are reached without TLS, as Docker does it.
    """
    path, colon, tag = reference.rpartition(":") if ":" in reference.rpartition("/")[2] else (reference, "", "")
    name = parse_name(f"{path.lower()}{colon}{tag}", DOCKER)
    host = name.host.partition(":")[0]
    return replace(name, is_plain=True) if host == "localhost" or host.endswith(".local") else name


def matching(reference: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that a reference means: by id, by Docker's name, or by ours. Raises NotFound."""
    if known := _ID.fullmatch(reference):
        found = [entry for entry in entries if entry.manifest.digest.hex.startswith(known[1])]
    else:
        by_meaning = ([entry for entry in entries if entry.name.parts == name.parts] for name in _meanings(reference))
        found = next(filter(None, by_meaning), [])
    if not found:
        raise NotFound(f"model not found: {reference[:200]}")
    return found


def is_identity(reference: str) -> bool:
    """Tell whether a reference is an id."""
    return _ID.fullmatch(reference) is not None


def described(entries: Sequence[Entry], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return Docker's description of a model that goes by the names of `entries`."""
    first = entries[0]
    config = {
        "format": "gguf",
        "quantization": str(summary.get("quantization", "")),
        "parameters": str(summary.get("parameters", "")),
        "architecture": str(summary.get("architecture", "")),
        "size": gibibytes(int(summary.get("size", first.manifest.size))),
    }
    if "context length" in summary:
        config["context_size"] = summary["context length"]
    return {
        "id": identity(first),
        "tags": [shown_name(entry.name) for entry in entries],
        "created": int(first.modified_s),
        "config": config,
    }


def openai_card(name: str, created: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model in OpenAI's list, with what Docker adds to it."""
    about = {
        "context_window": config.get("context_size", 0),
        **{key: config.get(key, "") for key in ("architecture", "parameters", "quantization", "size")},
    }
    return {"id": name, "object": "model", "created": created, "owned_by": "docker", "dmr": about}


def shown_name(name: Name) -> str:
    """Return a name as it is told: Docker's with its host, ours as they are written everywhere."""
    return f"{DOCKER}/{name.namespace}/{name.model}:{name.tag}" if name.host == DOCKER else str(name)


def gibibytes(size: int) -> str:
    """Return a size as Docker writes it."""
    for unit, bytes_in_it in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_in_it:
            return f"{size / bytes_in_it:.2f}{unit}"
    return f"{size}B"


def _meanings(reference: str) -> list[Name]:
    found = []
    for read in (dockers_name, parse_name):
        try:
            found.append(read(reference))
        except InvalidRequest:
            continue
    return found
