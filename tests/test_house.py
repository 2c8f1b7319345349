"""The house rules, executable: which room may import which, and what no room may import at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "camelid"
GROUND = {"errors", "rules", "types", "settings"}
FORBIDDEN = {"pickle", "dill", "marshal", "shelve"}  # formats that run code when they are read

# The rooms without files yet stand here already, because the rule is older than the code.
MAY_IMPORT: dict[str, set[str]] = {
    "formats": set(),
    "text": set(),
    "grammar": set(),
    "store": {"formats"},
    "backends": {"formats"},
    "models": {"formats", "backends"},
    "engine": {"models", "backends", "grammar"},
    "runtime": {"store", "formats", "text", "grammar", "models", "backends", "engine"},
    "server": {"runtime", "store"},
    "bench": {"server", "runtime", "engine", "models", "backends", "formats"},  # it measures all of them
    "integrations": {"runtime", "server", "store"},
    "cli": {"runtime", "server", "integrations", "bench", "store", "models"},
}


def imported_modules(source: str) -> Iterator[str]:
    """Yield every module that absolute imports in `source` name, lazy and type-only imports included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imported_rooms(source: str, package: str = "camelid") -> set[str]:
    """Return the rooms of `package` that `source` reaches."""
    parts = [module.split(".") for module in imported_modules(source)]
    return {names[1] for names in parts if names[0] == package and len(names) > 1}


def rooms_and_files() -> Iterator[tuple[str, Path]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE).parts[0], file


def test_every_folder_is_a_room_of_the_plan() -> None:
    rooms = {room for room, file in rooms_and_files() if file.parent != PACKAGE}
    assert rooms <= set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_import_only_what_the_plan_allows(room: str) -> None:
    for file in sorted((PACKAGE / room).rglob("*.py")):
        extra = imported_rooms(file.read_text()) - MAY_IMPORT[room] - GROUND - {room, "__version__"}
        assert not extra, f"{file}: {room} may not import {sorted(extra)}"


def test_ground_files_import_only_each_other() -> None:
    for name in GROUND:
        assert imported_rooms((PACKAGE / f"{name}.py").read_text()) <= GROUND


def test_the_plan_has_no_cycles() -> None:
    list(TopologicalSorter(MAY_IMPORT).static_order())


def test_no_room_reads_formats_that_run_code() -> None:
    for _, file in rooms_and_files():
        roots = {module.split(".")[0] for module in imported_modules(file.read_text())}
        assert not roots & FORBIDDEN, file


def test_only_the_gpu_backend_and_the_peers_know_torch() -> None:
    for _, file in rooms_and_files():
        if {"gpu", "peers"} & set(file.relative_to(PACKAGE).parts):
            continue
        roots = {module.split(".")[0] for module in imported_modules(file.read_text())}
        assert not roots & {"torch", "triton", "transformers"}, file


def test_backends_do_not_import_each_other() -> None:
    backends = {"reference", "cpu", "gpu"}
    for backend in backends:
        for file in sorted((PACKAGE / "backends" / backend).rglob("*.py")):
            for module in imported_modules(file.read_text()):
                parts = module.split(".")
                assert not (parts[:2] == ["camelid", "backends"] and set(parts[2:3]) & (backends - {backend})), file
            relative = [
                node.module or ""
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.ImportFrom) and node.level > 1
            ]
            assert not any(name.split(".")[0] in backends - {backend} for name in relative), file
