"""Fast copies of models: where they lie, when one is used, when one is made.

A backend may read weights faster from a copy in a layout of its own (`backends.base.Copier`). It is made once, in the
background, after a model has been loaded for a while, and used from the next loading on; or first of all, where that
is wished. Nothing depends on it: where
there is none, or the disk takes none, the model's own file is read.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from camelid.backends.base import Backend, Copier
from camelid.errors import CamelidError
from camelid.formats.fast_copy import Fill, Matrix, Origin, copy_bytes, open_fast_copy, write_fast_copy
from camelid.store.copies import CopyPlace, begun_copies, place_of
from camelid.store.locks import locked
from camelid.store.places import own_store

from .frames import Load

LEAST_BYTES = 64 << 20  # what a cache nearly holds is fast as it is
AMPLE = 10  # times a copy's size must be free on the disk, where nobody has asked for copies
SPARE_BYTES = 256 << 20  # left free in any case
DELAY_S = 30.0  # who only asks one question is gone by then
NICENESS = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FastCopies:
    """What is to be done about the copy of one model, for one backend. `place` None: nothing."""

    place: CopyPlace | None
    backend: Backend
    wish: str = "auto"  # settings.fast_copies

    @classmethod
    def of(cls, load: Load, backend: Backend) -> FastCopies:
        """Say where the copy of a model lies or would lie. Adapted weights, and those in several files, have none."""
        weights, settings = Path(load.path), load.settings
        can_have = isinstance(backend, Copier) and settings.fast_copies != "off" and not load.adapters
        place = place_of(weights, own_store(settings.models).folder) if can_have and weights.is_file() else None
        return cls(place, backend, settings.fast_copies)

    def use(self) -> None:
        """Have the backend read from the copy, if there is one and it is of this very file."""
        if self.place is None or not isinstance(self.backend, Copier) or not self.place.path.is_file():
            return
        try:
            copy = open_fast_copy(self.place.path)
        except CamelidError as error:
            _log.warning("a fast copy cannot be read, so the model's own file is: %s", error)
            return
        if copy.origin == origin_of(self.place, self.backend):
            self.backend.read_from(copy)
            _log.info("reading weights from %s", copy.path)

    def make_first(self) -> bool:
        """Make the copy now if that is wished, there is none and there is room; say whether it can be read from."""
        work = self._work() if self.wish == "first" else None
        return work is not None and make(*work)

    def make_later(self) -> None:
        """Make the copy in a while, in the background, if there is none and there is room for it."""
        work = self._work() if self.wish in ("auto", "on") else None
        if work is not None:
            threading.Thread(target=_make_in_background, args=work, name="copying", daemon=True).start()

    def _work(self) -> tuple[CopyPlace, Origin, Sequence[Matrix], Fill] | None:
        """Return what is to be copied, and where to; None if nothing is, or there is no room."""
        if self.place is None or not isinstance(self.backend, Copier):
            return None
        matrices, fill = self.backend.copyable()
        size = copy_bytes(matrices)
        if size < LEAST_BYTES or not _has_room(self.place, size, self.wish):
            return None
        return self.place, origin_of(self.place, self.backend), matrices, fill


def origin_of(place: CopyPlace, backend: Copier) -> Origin:
    """Return what a copy for `backend` must say that it is of."""
    return Origin(str(place.source), place.identity, backend.layout)


def _has_room(place: CopyPlace, size: int, wish: str) -> bool:
    folder = next(parent for parent in place.path.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    return free >= size + SPARE_BYTES and (wish != "auto" or free >= AMPLE * size)


def _make_in_background(place: CopyPlace, origin: Origin, matrices: Sequence[Matrix], fill: Fill) -> None:
    threading.Event().wait(DELAY_S)
    if sys.platform == "linux":  # where threads have priorities of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    make(place, origin, matrices, fill)


def make(place: CopyPlace, origin: Origin, matrices: Sequence[Matrix], fill: Fill) -> bool:
    """Make a copy, if no other process has done so meanwhile; say whether it is there. A failure is logged."""
    try:
        with locked(place.lock):
            if _is_there(place, origin):
                return True
            place.path.parent.mkdir(parents=True, exist_ok=True)
            for part in begun_copies(place.path):  # of processes that were killed: the lock is ours
                part.unlink(missing_ok=True)
            write_fast_copy(place.path, origin, matrices, fill)
    except (OSError, CamelidError) as error:
        _log.info("no fast copy of %s is made: %s", origin.source, error)
        return False
    _log.info("%s is a copy of the weights that is read faster; the next loading takes it", place.path)
    return True


def _is_there(place: CopyPlace, origin: Origin) -> bool:
    try:
        return open_fast_copy(place.path).origin == origin
    except CamelidError:
        return False  # none, or one that is damaged
