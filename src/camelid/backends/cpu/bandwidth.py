"""How fast this machine reads memory: measured once, and remembered in a small file with what was measured.

Decoding reads every weight for each token, so this bounds how fast a model can answer. The file is a cache: what cannot
be read or written is measured anew, and another processor, number of threads or build of the kernels has its own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from camelid.formats.atomic import replace_file

from . import machine

READ_BYTES = 128 << 20  # several times what a processor caches
PROBE_S, AHEAD_BYTES = 0.1, 1024
MOST = 1e14  # bytes a second: a file that says more is not believed


def read_bandwidth(isa: str, threads: int, folder: Path | None = None, root: Path = machine.ROOT) -> float:
    """Return the bytes a second that the kernels of `isa` read with so many threads; a measurement takes 0.2 s.

    `folder` is where it is remembered; by default where the system keeps what may be lost. Raises MemoryError.
    """
    path = (folder or _cache_folder()) / "bandwidth.json"
    known, key = _remembered(path), f"{machine.processor_name(root)}, {threads} threads, {isa}"
    found = known.get(key)
    if isinstance(found, float) and 0 < found < MOST:
        return found
    from ._native import probe_reading

    measured = probe_reading(isa, threads, READ_BYTES, AHEAD_BYTES, PROBE_S)
    _remember(path, {**known, key: measured})
    return measured


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "camelid"


def _remembered(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(path: Path, values: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file:
            file.write(json.dumps(values).encode())
    except OSError:
        return  # it is measured again next time
