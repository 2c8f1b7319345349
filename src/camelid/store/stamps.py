"""What tells files from others that are put in their place, without reading them."""

from __future__ import annotations

from pathlib import Path

from camelid.errors import NotFound


def stamp(weights: Path, *adapters: Path) -> str:
    """Return what tells the files of a model from others that are put in their place: sizes, times and inodes.

    Raises NotFound when they are gone.
    """
    try:
        files = sorted(weights.iterdir()) if weights.is_dir() else [weights]
        stats = [file.stat() for file in (*files, *adapters)]
    except OSError as error:
        raise NotFound(
            f"{error.filename or weights}: {error.strerror}", hint="put the model back, or load another one"
        ) from error
    return " ".join(f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)
