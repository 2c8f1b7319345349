"""Says whether a schema, regex or grammar can be followed, and what it costs to know: no more than the limits.

A grammar is a program from outside, and some small ones take hours or all memory to compile. So each is tried first in
a process that is killed when it goes over its time or memory; only what came back from there reaches an engine.
Verdicts are kept, so that a client with one schema pays once. Nothing here knows a vocabulary.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from camelid.errors import BadGrammar, MissingDependency, Overloaded
from camelid.types import Grammar, GrammarKind

from . import limits
from .schema import schema_source

_PROGRAM = Path(__file__).with_name("check_worker.py")
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")
_MAX_VERDICTS = 256
_MAX_REPLY = 2**24
_LONGEST_MESSAGE = 300  # characters of what the library says; it may quote the grammar

_SCHEMAS = (GrammarKind.JSON_SCHEMA, GrammarKind.LENIENT_SCHEMA)
Key = tuple[GrammarKind, str]


@dataclass(frozen=True)
class CheckLimits:
    """What one check may cost."""

    seconds: float = limits.CHECK_S
    memory_bytes: int = limits.CHECK_MEMORY
    start_s: float = limits.START_S
    num_processes: int = limits.MAX_PROCESSES


class _Gone(Exception):
    """The process ended or did not answer in time."""


class GrammarChecker:
    """Checks grammars, from any thread. Processes start with the first check and stay until `close`."""

    def __init__(self, check_limits: CheckLimits = CheckLimits()) -> None:
        self._limits = check_limits
        self._free = threading.BoundedSemaphore(check_limits.num_processes)
        self._idle: list[_Worker] = []
        self._verdicts: dict[Key, str | BadGrammar] = {}
        self._finalizer = weakref.finalize(self, _stop_all, self._idle)

    def prepare(self, grammar: Grammar) -> str:
        """Return the grammar as a `Compiler` takes it. Blocks for two seconds at most, plus the start of a process.

        Raises BadGrammar, naming the grammar's field; Overloaded when all processes stay busy.
        """
        key = (grammar.kind, grammar.source)
        verdict = self._verdicts.pop(key, None) or self._judge(grammar)
        self._verdicts[key] = verdict  # the last one is the one that was used last
        while len(self._verdicts) > _MAX_VERDICTS:
            with contextlib.suppress(KeyError):  # another thread was faster
                del self._verdicts[next(iter(self._verdicts))]
        if isinstance(verdict, BadGrammar):
            raise BadGrammar(f"{grammar.field}: {verdict.message}", field=grammar.field, hint=verdict.hint)
        return verdict

    def close(self) -> None:
        """End all processes."""
        self._finalizer()

    def _judge(self, grammar: Grammar) -> str | BadGrammar:
        is_schema = grammar.kind in _SCHEMAS
        source = schema_source(grammar) if is_schema else grammar.source
        if not self._free.acquire(timeout=self._limits.seconds):
            raise Overloaded("every process that checks grammars is busy", retry_after_s=self._limits.seconds)
        try:
            reply = self._ask("json" if is_schema else grammar.kind.value, source)
        except _Gone as gone:  # no verdict to keep: perhaps the machine was busy
            most = f"{self._limits.seconds:g} s or {self._limits.memory_bytes >> 20} MiB"
            raise BadGrammar(
                f"{grammar.field}: it takes more than {most} to compile", field=grammar.field, hint="make it simpler"
            ) from gone
        finally:
            self._free.release()
        return BadGrammar(_brief(reply["error"])) if "error" in reply else reply["source"]

    def _ask(self, kind: str, source: str) -> dict[str, str]:
        worker = self._take()
        reply = worker.ask({"kind": kind, "source": source})
        if self._finalizer.alive:
            self._idle.append(worker)
        else:
            worker.stop()
        return reply

    def _take(self) -> _Worker:
        """Return a process that waits, or a new one. One that has died meanwhile, as under a user's kill, is passed
        over.
        """
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was faster
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
                worker.stop()
        return _Worker(self._limits)


class _Worker:
    """One process and the connection to it. It is stopped when it fails."""

    def __init__(self, check_limits: CheckLimits) -> None:
        self._limits = check_limits
        self._connection, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM), str(check_limits.memory_bytes), json.dumps(dict(limits.PARSER))],
                stdin=other.fileno(),
                stdout=other.fileno(),
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                start_new_session=True,  # Ctrl-C in a console is not meant for it
            )
        try:
            self._receive(check_limits.start_s)
        except _Gone as gone:
            raise MissingDependency(
                "the process that checks grammars does not start", hint="install llguidance: pip install llguidance"
            ) from gone

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def ask(self, job: dict[str, str]) -> dict[str, str]:
        """Return the reply to a job. Raises _Gone."""
        data = json.dumps(job).encode()
        with contextlib.suppress(OSError):  # a process that is gone shows when it should answer
            self._connection.settimeout(self._limits.seconds)
            self._connection.sendall(struct.pack(">I", len(data)) + data)
        return self._receive(self._limits.seconds)

    def stop(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _receive(self, seconds: float) -> dict[str, str]:
        deadline = time.monotonic() + seconds
        try:
            (size,) = struct.unpack(">I", self._read(4, deadline))
            reply: dict[str, str] = json.loads(self._read(min(size, _MAX_REPLY), deadline))
        except (OSError, EOFError, ValueError) as error:
            self.stop()
            raise _Gone from error
        return reply

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = self._connection.recv(min(size - len(data), 2**20))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)


def _brief(message: str) -> str:
    """Return what the library says as one line that is not too long."""
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[: _LONGEST_MESSAGE - 1]}…"


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()
