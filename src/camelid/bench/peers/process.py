"""One peer's process, from the outside: started, asked, halted while others have their turn, ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from camelid.errors import CamelidError

from .adapter import About, Done, Job, Opening

ADAPTER = Path(__file__).with_name("adapter.py")


class PeerFailed(CamelidError):
    """A peer could not do what it was asked, and this is what it said."""


class PeerProcess:
    """A running adapter. Halted except while it works: threads that wait by spinning would slow the others."""

    def __init__(self, adapter: str, python: str, environment: dict[str, str], say_errors: BinaryIO | int) -> None:
        try:
            self._process = subprocess.Popen(
                [python, str(ADAPTER), adapter],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=say_errors,
                env=environment,
            )
        except OSError as error:
            raise PeerFailed(f"{python} cannot be started: {error}") from error

    def open(self, opening: Opening, limit_s: float) -> About:
        """Open the model. Raises PeerFailed, also when it takes longer than `limit_s`."""
        return About(**self._ask({"do": "open", **asdict(opening)}, limit_s))

    def work(self, job: Job, limit_s: float) -> Done | None:
        """Do a job while all others are halted; None if it cannot do such jobs. Raises PeerFailed."""
        self._signal(signal.SIGCONT)
        said = self._ask({"do": "work", **asdict(job)}, limit_s)
        self.halt()
        return Done(**said) if said is not None else None

    def halt(self) -> None:
        """Stop its threads until it is asked again."""
        self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _ask(self, order: dict[str, Any], limit_s: float) -> Any:
        pipes = self._process.stdin, self._process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise PeerFailed("the peer's process has no pipes")
        try:
            pipes[0].write(json.dumps(order).encode() + b"\n")
            pipes[0].flush()
        except BrokenPipeError as error:
            raise PeerFailed("its process ended") from error
        answer = json.loads(_read_line(pipes[1], limit_s))
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return answer["ok"]

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


def _read_line(pipe: Any, limit_s: float) -> bytes:
    """Read up to the end of a line. Raises PeerFailed when that takes too long or the process ends."""
    until, line = time.monotonic() + limit_s, b""
    while not line.endswith(b"\n"):
        if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            raise PeerFailed(f"it did not answer within {limit_s:g} s")
        part = os.read(pipe.fileno(), 65536)
        if not part:
            raise PeerFailed("its process ended")
        line += part
    return line
