"""Starts, asks, times and replaces the processes that render one Jinja template.

Separate from the template because this knows processes and limits, and nothing of messages or prompts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.errors import Overloaded, TemplateError

_PROGRAM = Path(__file__).with_name("template_worker.py")
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_MAX_REPLY = 256 * 2**20


@dataclass(frozen=True)
class WorkerLimits:
    """What one prompt may cost. An ordinary template takes a millisecond and a few megabytes."""

    cpu_s: float = 1.0
    wall_s: float = 10.0  # of one prompt, for a process that neither computes nor answers, or is not let run
    start_s: float = 20.0  # a busy machine may take seconds to start a process
    memory_bytes: int = 256 * 2**20
    num_processes: int = 2  # a template that hangs can hold up its own model only, and two processors at most


class _Gone(Exception):
    """The process ended or did not answer in time; its return code, None if it had to be killed, is the argument."""


class TemplateWorkers:
    """The processes of one template. The first starts at once, in the background, to be ready when it is needed."""

    def __init__(self, source: str, limits: WorkerLimits | None = None) -> None:
        self._source = source
        self._limits = limits or WorkerLimits()
        self._free = threading.BoundedSemaphore(self._limits.num_processes)
        self._idle: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop_all, self._idle)
        self._idle.append(self._start())

    def render(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to one job. Blocks for `wall_s` at most, plus the start of a process.

        Raises TemplateError when the process goes over a limit, Overloaded when all processes stay busy.
        """
        if not self._free.acquire(timeout=self._limits.wall_s):
            raise Overloaded("every process that renders this chat template is busy", retry_after_s=self._limits.wall_s)
        try:
            return self._ask(job)
        finally:
            self._free.release()

    def check(self) -> None:
        """Raise TemplateError unless the template compiles."""
        with self._free:
            worker = self._take()
            try:
                worker.wait_until_ready()
            except _Gone as gone:
                raise self._over_limit(gone) from gone
            self._put_back(worker)

    def close(self) -> None:
        """End all processes."""
        self._finalizer()

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Ask a process, and once more another one if the first was found dead for no reason of its own."""
        for is_last in (False, True):
            worker = self._take()
            try:
                worker.wait_until_ready()
                reply = worker.ask(job, self._limits.wall_s)
            except _Gone as gone:
                self._put_back(self._start())
                if is_last or gone.args[0] in (None, -signal.SIGPROF):
                    raise self._over_limit(gone) from gone
                continue
            if reply.get("is_last"):
                worker.stop()
                worker = self._start()
            self._put_back(worker)
            return reply
        raise AssertionError("the loop returns or raises")

    def _over_limit(self, gone: _Gone) -> TemplateError:
        if gone.args[0] == -signal.SIGPROF:
            return _error(f"needed more than {self._limits.cpu_s:g} s of processor time")
        if gone.args[0] is None:
            return _error(f"gave no prompt within {self._limits.wall_s:g} s")
        return _error(f"ended its process (code {gone.args[0]}), as when memory runs out")

    def _take(self) -> _Worker:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return self._start()

    def _put_back(self, worker: _Worker) -> None:
        if self._finalizer.alive:
            self._idle.append(worker)
        else:
            worker.stop()

    def _start(self) -> _Worker:
        return _Worker(self._source, self._limits)


class _Worker:
    """One process and the connection to it."""

    def __init__(self, source: str, limits: WorkerLimits) -> None:
        self._limits = limits
        self._is_ready = False
        self._connection, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM)],
                stdin=other.fileno(),
                stdout=other.fileno(),
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                start_new_session=True,  # Ctrl-C in a console is not meant for it
            )
        self._connection.settimeout(limits.start_s)
        with contextlib.suppress(OSError):  # a process that is gone already shows when it is asked
            self._send({"template": source, "cpu_s": limits.cpu_s, "memory_bytes": limits.memory_bytes})

    def wait_until_ready(self) -> None:
        """Wait until the template is compiled. Raises TemplateError if it does not compile."""
        if self._is_ready:
            return
        reply = self._exchange(None, self._limits.start_s)
        if "error" in reply:
            self.stop()
            raise _error(reply["error"])
        self._is_ready = True

    def ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        return self._exchange(job, seconds)

    def stop(self) -> int | None:
        """End the process; return its return code if it had ended by itself."""
        self._connection.close()
        code: int | None = self._process.poll()
        self._process.kill()
        self._process.wait()
        return code

    def _exchange(self, job: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        try:
            self._connection.settimeout(seconds)
            if job is not None:
                self._send(job)
            (size,) = struct.unpack(">I", self._receive(4, deadline))
            reply = json.loads(self._receive(min(size, _MAX_REPLY), deadline))
        except TimeoutError as error:
            self.stop()
            raise _Gone(None) from error
        except (OSError, EOFError, ValueError) as error:
            raise _Gone(self._return_code()) from error
        return dict(reply)

    def _return_code(self) -> int | None:
        """Return how the process ended, a moment after it closed the connection."""
        try:
            code: int | None = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            code = None
        self.stop()
        return code

    def _send(self, value: Any) -> None:
        data = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="surrogatepass")
        self._connection.sendall(struct.pack(">I", len(data)) + data)

    def _receive(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = self._connection.recv(min(size - len(data), 1 << 20))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)


def _error(what: str) -> TemplateError:
    return TemplateError(f"the chat template {what}", hint="use the model's own template, or one that is simpler")


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()
