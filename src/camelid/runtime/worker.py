"""The engine process: loads one model and serves it over an inherited socket. Started as `python -m
camelid.runtime.worker FD`.

It knows no text and no HTTP, needs no network, and leaves with its parent: at end of file on the socket, and on Linux
also when the parent dies in the middle of a long step. Interrupts are the front's business: a Ctrl-C or a service
manager's SIGTERM reaches the whole group, and an engine that died of it would cut the answers that the front is
finishing.
"""

from __future__ import annotations

import faulthandler
import logging
import select
import signal
import socket
import sys
from collections.abc import Callable

from camelid.errors import CamelidError, ProtocolError

from .failure import Failure
from .frames import (
    Command,
    Load,
    LoadFailed,
    Loading,
    Logged,
    Ready,
    Report,
    Unpacker,
    command_decoder,
    pack,
)
from .loop import EngineLoop, LineClosed, Steppable

READ_BYTES = 2**18
PR_SET_PDEATHSIG = 1  # linux/prctl.h

OpenEngine = Callable[[Load, Callable[[str], None]], tuple[Steppable, str]]
"""Opens the engine that a Load message asks for, saying its stages; returns it with the name of its backend."""


class SocketLine:
    """The line to the front over a stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._unpacker = Unpacker(command_decoder)

    def receive(self, timeout_s: float) -> list[Command]:
        """Return all commands that have come, waiting up to `timeout_s` for the first byte. Raises LineClosed."""
        commands: list[Command] = []
        while select.select([self._socket], [], [], 0.0 if commands else timeout_s)[0]:
            commands += self._unpacker.feed(self._read())
            timeout_s = 0.0
        return commands

    def receive_load(self) -> Load:
        """Wait for the first message. Raises ProtocolError if it is another, LineClosed."""
        commands: list[Command] = []
        while not commands:
            commands = self._unpacker.feed(self._read())
        if len(commands) != 1 or not isinstance(commands[0], Load):
            raise ProtocolError(f"the first message must be a Load, got {type(commands[0]).__name__}")
        return commands[0]

    def send(self, report: Report) -> None:
        """Send one report, waiting while the front is busy. Raises LineClosed."""
        try:
            self._socket.sendall(pack(report))
        except OSError as error:
            raise LineClosed from error

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(READ_BYTES)
        except ConnectionError as error:
            raise LineClosed from error
        if not data:
            raise LineClosed
        return data


class _LineHandler(logging.Handler):
    """Sends log records to the front."""

    def __init__(self, line: SocketLine) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.send(Logged(record.name, record.levelno, record.getMessage()))


def serve(connection: socket.socket, open_engine: OpenEngine) -> None:
    """Load the model that the front asks for and serve it until the front leaves."""
    line = SocketLine(connection)
    try:
        load = line.receive_load()
        _send_logs(line, load.log_level)
        engine, backend = open_engine(load, lambda stage: line.send(Loading(stage)))
        line.send(Loading("warming up"))
        line.send(Ready(backend, engine.warm_up()))
    except CamelidError as error:
        line.send(LoadFailed(Failure.of(error)))
    except LineClosed:
        return
    else:
        EngineLoop(engine, line).run()


def main(open_engine: OpenEngine | None = None) -> None:
    """Serve the socket whose number is the one argument."""
    prepare_process()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection, open_engine or _open_engine)


def _open_engine(load: Load, say: Callable[[str], None]) -> tuple[Steppable, str]:
    from .assembly import open_engine  # numpy and the backend are slow to import: not before they are needed

    return open_engine(load, say)


def prepare_process() -> None:
    """Leave with the parent, ignore what is the front's business, and write stacks where a hang is ended."""
    faulthandler.enable()
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1)  # the supervisor asks for the stacks before it kills an engine that hangs
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _send_logs(line: SocketLine, level: int) -> None:
    logger = logging.getLogger("camelid")
    logger.setLevel(level)
    logger.addHandler(_LineHandler(line))
    logger.propagate = False


if __name__ == "__main__":
    main()
