"""One engine process, from the front's side: started, told, listened to, ended. Whether another follows is the
supervisor's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence

from camelid.errors import Unavailable

from .frames import Command, Load, LoadFailed, Loading, Logged, Ready, Report, Unpacker, pack, report_decoder
from .starvation import waited_s

READ_BYTES = 2**18
EXIT_GRACE_S = 2.0  # an engine that was asked to leave is at most one step away from noticing
STANDARD_ERROR = 2
STACKS_GRACE_S = 0.2  # for an engine that hangs to write down where

# -P: the current folder is not searched for modules; someone may serve from a folder with a file called numpy.py.
WORKER = (sys.executable, "-P", "-m", "camelid.runtime.worker")


class EngineProcess:
    """A running engine process and the line to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._unpacker = Unpacker(report_decoder)

    @classmethod
    async def start(cls, command: Sequence[str] = WORKER) -> EngineProcess:
        """Start a process. Raises Unavailable.

        The calling thread must live as long as the process, because Linux ends the process with it.
        """
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=STANDARD_ERROR,  # standard output is for answers
            )
        except OSError as error:  # no memory or no process numbers left
            ours.close()
            raise Unavailable(f"the engine process cannot be started: {error}") from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def waited_s(self) -> float:
        """Return for how long its threads have waited for a processor (see `starvation`)."""
        return waited_s(self._process.pid)

    def send(self, command: Command) -> None:
        """Put a command on the line. A process that is gone does not get it, and the reader notices."""
        if not self._writer.is_closing():
            self._writer.write(pack(command))

    async def reports(self) -> AsyncGenerator[Report, None]:
        """Yield reports until the process closes the line, which it does by dying. Raises ProtocolError."""
        while data := await self._read():
            for report in self._unpacker.feed(data):
                yield report

    async def load(self, load: Load) -> AsyncGenerator[Loading | Logged | Ready, None]:
        """Ask for a model; yield what is heard while it loads, Ready last.

        Raises the load's own error (FormatError, OutOfMemory, …), and Unavailable if the process dies of it.
        """
        self.send(load)
        while data := await self._read():
            for report in self._unpacker.feed(data):
                if isinstance(report, LoadFailed):
                    raise report.failure.error()
                if isinstance(report, (Loading, Logged, Ready)):
                    yield report
                if isinstance(report, Ready):
                    return
        raise Unavailable(
            f"the engine process {await self.end()} while it loaded the model", hint="see its messages in the log"
        )

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except ConnectionError:  # it died with something of ours unread
            return b""

    async def dump_stacks_and_kill(self) -> None:
        """Have an engine that hangs write its stacks to standard error, as far as it can, and kill it."""
        if hasattr(signal, "SIGUSR1"):
            self._signal(signal.SIGUSR1)
            await asyncio.sleep(STACKS_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """Kill the process if it still runs; the reports then end."""
        self._signal(signal.SIGKILL)

    async def end(self) -> str:
        """Close the line, wait for the process to leave, kill it if it does not. Return how it ended."""
        self._writer.close()
        try:
            code = await asyncio.wait_for(self._wait(), EXIT_GRACE_S)
        except TimeoutError:
            self.kill()
            code = await self._wait()
        return _describe(code)

    async def _wait(self) -> int:
        """Poll for the end: a thread that waits could not be cancelled, and a child watcher needs the main thread."""
        pause_s = 0.001
        while (code := self._process.poll()) is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
        return code

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                os.kill(self._process.pid, number)


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
