"""The other ranks of a model, from the first one's side: started, told what to compute, watched.

The first rank is the engine process: it plans, draws and speaks to the front. The others have their part of the weights
and of the pages, and run each batch that they are told of; the backend's sums make them meet. A rank that dies takes
the engine process with it, whatever that is waiting for: the supervisor starts a new one, which brings new ranks, and
goes on with the open requests.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from camelid.backends.base import Array, Backend, Batch, Forward, Team
from camelid.engine.embedding import HiddenStates
from camelid.errors import ProtocolError, Unavailable

from .frames import Load, Unpacker, pack
from .rank_frames import Join, NotJoined, answer_decoder, run_order

READ_BYTES = 2**16
STANDARD_ERROR = 2
EXIT_GRACE_S = 2.0
EXIT_CODE = 70  # sysexits.h: an internal error
RANK = (sys.executable, "-P", "-m", "camelid.runtime.rank_worker")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Rank:
    """One of the others: its process and the line to it."""

    number: int
    process: subprocess.Popen[bytes]
    line: socket.socket


class OtherRanks:
    """All ranks of a team but the first, which is this process."""

    def __init__(
        self, load: Load, command: Sequence[str] = RANK, die: Callable[[], object] = lambda: os._exit(EXIT_CODE)
    ) -> None:
        """Start them, and have them load. `die` ends this process when one of them has died. Raises Unavailable.

        The calling thread must live as long as they do, because Linux ends them with it.
        """
        size = load.settings.tensor_parallel
        self._meeting = tempfile.mkdtemp(prefix="camelid-ranks-")
        atexit.register(shutil.rmtree, self._meeting, ignore_errors=True)  # also when an error ends this process
        self.team = Team(0, size, self._meeting)
        self._die, self._is_leaving = die, threading.Event()
        self._ranks: list[_Rank] = []
        try:
            for number in range(1, size):
                self._ranks.append(_start(number, command))
            for rank in self._ranks:
                rank.line.sendall(pack(Join(load, rank.number, size, self._meeting)))
        except OSError as error:
            self.close()
            raise Unavailable(f"the {size} ranks cannot be started: {error}") from error
        for rank in self._ranks:
            threading.Thread(target=self._watch, args=(rank,), name=f"rank {rank.number}", daemon=True).start()

    def wait(self) -> None:
        """Wait until all have placed their weights. Raises what loading raises, and Unavailable."""
        for rank in self._ranks:
            answer = _answer(rank)
            if isinstance(answer, NotJoined):
                raise answer.failure.error()

    def tell(self, batch: Batch, *, is_hidden: bool) -> None:
        """Have all of them compute a batch. Raises Unavailable when one is gone."""
        order = pack(run_order(batch, is_hidden=is_hidden))
        for rank in self._ranks:
            try:
                rank.line.sendall(order)
            except OSError as error:
                raise Unavailable(f"rank {rank.number} is gone") from error

    @property
    def pids(self) -> list[int]:
        """Their process numbers."""
        return [rank.process.pid for rank in self._ranks]

    def close(self) -> None:
        """End them: they leave when their line closes."""
        self._is_leaving.set()
        for rank in self._ranks:
            rank.line.close()
        for rank in self._ranks:
            try:
                rank.process.wait(EXIT_GRACE_S)
            except subprocess.TimeoutExpired:
                rank.process.kill()
                rank.process.wait()
        shutil.rmtree(self._meeting, ignore_errors=True)

    def _watch(self, rank: _Rank) -> None:
        """Wait for the end of a rank; one that comes too early is the end of this process, too."""
        code = rank.process.wait()
        if not self._is_leaving.is_set():
            _log.error("rank %d ended with code %d, and the engine with it", rank.number, code)
            shutil.rmtree(self._meeting, ignore_errors=True)
            self._die()


class SharedBackend:
    """The backend of the first rank: the others are told of everything that it runs."""

    def __init__(self, own: Backend, others: OtherRanks) -> None:
        self._own, self._others = own, others
        self.name = own.name
        self.place, self.place_vector, self.place_low_rank = own.place, own.place_vector, own.place_low_rank
        self.page_bytes, self.open_pages, self.memory = own.page_bytes, own.open_pages, own.memory
        self.read_page, self.write_page, self.sample = own.read_page, own.write_page, own.sample

    def run(self, model: Forward, batch: Batch) -> Array:
        """Run a batch on all ranks (see `Backend.run`). Raises Unavailable when one is gone."""
        self._others.tell(batch, is_hidden=isinstance(model, HiddenStates))
        return self._own.run(model, batch)


def _start(number: int, command: Sequence[str]) -> _Rank:
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=STANDARD_ERROR,
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Rank(number, process, ours)


def _answer(rank: _Rank) -> object:
    unpacker = Unpacker(answer_decoder)
    with contextlib.suppress(ConnectionError, ProtocolError):
        while data := rank.line.recv(READ_BYTES):
            for answer in unpacker.feed(data):
                return answer
    raise Unavailable(f"rank {rank.number} ended while it loaded", hint="see its messages in the log")
