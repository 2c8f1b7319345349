"""The build backend: scikit-build-core's, with a compiler for machines that have none.

`pip install` builds Camelid's C++ extension. Where no C++ compiler is found, this backend adds Zig's clang (the package
`ziglang`) to what the build needs, and points CMake at it. Everything else is scikit-build-core's own work.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scikit_build_core import build as _scikit
from scikit_build_core.build import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

COMPILERS = ("c++", "g++", "clang++")
ZIG = "ziglang>=0.13"
# CMake's name of a tool, and Zig's verb for it. Zig's linker leaves nothing to strip that would be worth a tool.
TOOLS = {"cc": "cc", "c++": "c++", "ar": "ar", "ranlib": "ranlib"}

Settings = Mapping[str, Any] | None


def has_compiler(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a C++ compiler is named by CXX or found on the path."""
    return bool(environment.get("CXX")) or any(shutil.which(name) for name in COMPILERS) or sys.platform == "win32"


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return what a wheel needs: scikit-build-core's list, and Zig where there is no compiler."""
    return [*_scikit.get_requires_for_build_wheel(config_settings), *([] if has_compiler() else [ZIG])]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Return what an editable install needs."""
    return [*_scikit.get_requires_for_build_editable(config_settings), *([] if has_compiler() else [ZIG])]


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel into `wheel_directory` and return its name."""
    with _compiler():
        return _scikit.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable wheel into `wheel_directory` and return its name."""
    with _compiler():
        return _scikit.build_editable(wheel_directory, config_settings, metadata_directory)


@contextmanager
def _compiler() -> Iterator[None]:
    """Give CMake Zig's tools while the block runs, if the machine has none of its own."""
    if has_compiler():
        yield
        return
    print("no C++ compiler found: building with Zig's clang", file=sys.stderr)
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        tools = {name: _wrapper(Path(folder), name, verb) for name, verb in TOOLS.items()}
        # CMake reads the compilers from the environment, the archiver only from its arguments.
        arguments = f"-DCMAKE_AR={tools['ar']} -DCMAKE_RANLIB={tools['ranlib']} -DCMAKE_STRIP={shutil.which('true')}"
        os.environ.update(CC=tools["cc"], CXX=tools["c++"], CMAKE_ARGS=f"{before.get('CMAKE_ARGS', '')} {arguments}")
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _wrapper(folder: Path, name: str, verb: str) -> str:
    """Write a script that calls one of Zig's tools, because CMake wants a program and not a command with arguments."""
    script = folder / name
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {verb} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)
