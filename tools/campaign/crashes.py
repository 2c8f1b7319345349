"""Cut the power at every point of what a store does, and look at what is left.

    python -m tools.campaign.crashes --states 20000 --seed 1

The operations of a pull, a create, a cp, an rm and a prune are recorded; for every point, what was not synced is lost
in every legal way (see tests/store/crashes.py). In each of these states a listed model must be whole and verified, no
model that had nothing to do with it may be gone, and the same command must get to its end.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tests.store.crashes import Contents, RecordingDisk, contents_of, crash_states

from camelid.errors import DamagedBlob, NotFound
from camelid.store import download as download_module
from camelid.store.blobs import digest_of
from camelid.store.download import Piece
from camelid.store.files import Disk
from camelid.store.making import create
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, Manifest, write_manifest
from camelid.store.modelfile import Modelfile
from camelid.store.names import Name, parse_name
from camelid.store.store import Store
from camelid.store.transfer import Watcher, pull

CHUNK = 400  # bytes, in the place of 4 MiB
SLICE = 30  # bytes that arrive at once
__all__ = ["DamagedBlob", "NotFound", "run"]
WEIGHTS, SHARED, CONFIG = random.Random(7).randbytes(1750), b"shared by both", b"{}"
OLD, OTHER, NEW = parse_name("ns/old"), parse_name("ns/other"), parse_name("ns/new")


class Hasty(Disk):
    """A disk that does not wait: what happens after a crash is looked at without another one."""

    def sync(self, file: int) -> None:
        """Do nothing."""

    def sync_folder(self, folder: Path) -> None:
        """Do nothing."""


class Origin:
    """A registry in memory, with one model."""

    def __init__(self) -> None:
        layers = (_layer("model", WEIGHTS), _layer("license", SHARED))
        config = Layer("application/vnd.docker.container.image.v1+json", digest_of(CONFIG), len(CONFIG))
        self._manifest = write_manifest(DOCKER_MANIFEST, config, layers)
        self._contents = {digest_of(content): content for content in (WEIGHTS, SHARED, CONFIG)}

    def manifest(self) -> Manifest:
        """Return the model's manifest."""
        return self._manifest

    @contextmanager
    def piece(self, layer: Layer, start: int, end: int) -> Iterator[Piece]:
        """Yield the bytes asked for, in small slices."""
        content = self._contents[layer.digest][start:end]
        yield Piece(start, iter([content[at : at + SLICE] for at in range(0, len(content), SLICE)]))


def _layer(kind: str, content: bytes) -> Layer:
    return Layer(OLLAMA_LAYER + kind, digest_of(content), len(content))


def _put(store: Store, name: Name, *contents: bytes) -> None:
    layers = tuple(Layer(f"{OLLAMA_LAYER}model", store.blobs.add(content), len(content)) for content in contents)
    config = Layer("application/vnd.docker.container.image.v1+json", store.blobs.add(CONFIG), len(CONFIG))
    store.list_model(name, write_manifest(DOCKER_MANIFEST, config, layers))


def _pull(store: Store) -> None:
    pull(store, NEW, Watcher(), lambda *_: None, Origin())


def _create(store: Store) -> None:
    source = store.folder.parent / "weights.gguf"
    source.write_bytes(WEIGHTS)
    create(store, NEW, Modelfile(source.name, system="Be kind."), source.parent)


def _copy(store: Store) -> None:
    store.copy(OLD, NEW)


def _remove(store: Store) -> None:
    try:
        store.remove(OLD)
    except NotFound:
        store.prune()  # what a crash left of its files


def _prune(store: Store) -> None:
    store.prune()


@dataclass(frozen=True)
class Scenario:
    """A command, and whether the two models that were there and the new one are to be listed after it."""

    run: Callable[[Store], None]
    has_old: bool = True
    has_new: bool = False


SCENARIOS = {  # those with the fewest states first: what they leave of a number is for the next
    "prune": Scenario(_prune),
    "rm": Scenario(_remove, has_old=False),
    "cp": Scenario(_copy, has_new=True),
    "create": Scenario(_create, has_new=True),
    "pull": Scenario(_pull, has_new=True),
}


def run(num_states: int, seed: int, folder: Path) -> dict[str, int]:
    """Try so many different states, shared out among the scenarios; return how many each had.

    Raises AssertionError for the first state that is wrong.
    """
    counts: dict[str, int] = {}
    with patch.object(download_module, "CHUNK_BYTES", CHUNK), patch.object(download_module, "STREAMS", 1):
        for index, (name, scenario) in enumerate(SCENARIOS.items()):
            share = (num_states - sum(counts.values())) // (len(SCENARIOS) - index)
            counts[name] = _run_one(scenario, share, random.Random(seed), folder / name)
    return counts


def _run_one(scenario: Scenario, num_states: int, rng: random.Random, folder: Path) -> int:
    folder.mkdir(parents=True)
    before, operations = _recorded(scenario, folder)
    seen: set[int] = set()
    most = max(2, num_states // len(operations))
    while len(seen) < num_states:
        at_first = len(seen)
        for state in crash_states(before, operations, most, rng):
            if state.key() not in seen and len(seen) < num_states:
                seen.add(state.key())
                _check(scenario, state, folder)
        if len(seen) == at_first:  # all there are
            break
        most *= 2
    return len(seen)


def _recorded(scenario: Scenario, folder: Path) -> tuple[Contents, list]:
    disk, place = RecordingDisk(), folder / "recorded"
    _prepare(Store(place))
    before = contents_of(place)
    scenario.run(Store(place, disk=disk))
    return before, disk.operations


def _prepare(store: Store) -> None:
    _put(store, OLD, b"the old model", SHARED)
    _put(store, OTHER, b"another model", SHARED)
    store.blobs.add(b"what no model needs")


def _check(scenario: Scenario, state: Contents, folder: Path) -> None:
    place = folder / "crashed"
    state.build(folder / "recorded", place)
    store = Store(place)
    _check_listed(store, at_least={OTHER} | ({OLD} if scenario.has_old else set()))
    scenario.run(Store(place, disk=Hasty()))
    wanted = {OTHER} | ({OLD} if scenario.has_old else set()) | ({NEW} if scenario.has_new else set())
    assert _check_listed(store, at_least=wanted) == wanted


def _check_listed(store: Store, at_least: set[Name]) -> set[Name]:
    """Check that what is listed is whole, and return it."""
    for entry in store.entries():
        store.verify(entry)
    listed = {entry.name for entry in store.entries()}
    assert listed >= at_least, f"{at_least - listed} is gone"
    assert listed == set(store.manifests), "a manifest cannot be read"
    return listed


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(options.states, options.seed, Path(folder))
    print(f"{sum(counts.values())} different states, none wrong: {counts}")


if __name__ == "__main__":
    main()
