"""What a build is sent of this repository: the files that `.dockerignore` leaves and git keeps."""

from __future__ import annotations

import fnmatch
import subprocess
from pathlib import Path


def files(root: Path) -> list[Path]:
    """Return the files that `COPY .` copies, relative to the root."""
    patterns = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    names = [name.decode() for name in tracked.split(b"\0") if name]
    return [Path(name) for name in names if is_sent(name, patterns) and (root / name).is_file()]


def is_sent(name: str, patterns: list[str]) -> bool:
    """Say whether the lines of a .dockerignore leave a file: the last that matches it or a folder over it counts."""
    over = [name, *map(str, Path(name).parents)]
    left = True
    for pattern in patterns:
        plain = pattern.removeprefix("!").strip()
        if plain and not plain.startswith("#") and any(_matches(one, plain) for one in over):
            left = pattern.startswith("!")
    return left


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatch(Path(name).name, pattern[3:])
    return name.count("/") == pattern.count("/") and fnmatch.fnmatch(name, pattern)
