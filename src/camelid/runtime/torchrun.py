"""Started by `torchrun`: one process serves, the others stay until it has left.

`torchrun` starts a process for each GPU, and a server has its own ranks, which it must be able to start again. So the
first process serves with as many ranks as there are processes, and the others only hold their places, for those whose
scripts and schedulers start models that way. They leave when the first does, however it does.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from camelid.errors import InvalidSetting

LOOK_S = 0.1  # how often a process looks for the first one, which may take its time to start


@dataclass(frozen=True)
class Launch:
    """This process as `torchrun` sees it. `name` is the same for all that were started together."""

    rank: int
    size: int
    name: str


def launch_of(environment: Mapping[str, str]) -> Launch | None:
    """Return what `torchrun` says, None if it has not started this process.

    Raises InvalidSetting for processes on more than one machine. Source: PyTorch's documentation of torchrun.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None
    size, local = (int(environment.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if size != local:
        raise InvalidSetting(f"torchrun started {size} processes on several machines; a model is on one")
    name = f"camelid-{environment['TORCHELASTIC_RUN_ID']}-{environment.get('MASTER_PORT', '')}"
    return Launch(int(environment.get("RANK", "0")), size, name)


class Places:
    """The other processes' places, held by the first as long as it lives."""

    def __init__(self, launch: Launch) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("\0" + launch.name)  # a name without a file, which is gone with this process
        self._listener.listen(launch.size)
        self._lines: list[socket.socket] = []
        self.all_here = threading.Event()
        threading.Thread(target=self._take, args=(launch.size - 1,), name="torchrun", daemon=True).start()

    def _take(self, count: int) -> None:
        for _ in range(count):
            self._lines.append(self._listener.accept()[0])
        self.all_here.set()


def wait_for_first(launch: Launch) -> None:
    """Wait until the first process has left, or `torchrun` has."""
    parent = os.getppid()
    while os.getppid() == parent:
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect("\0" + launch.name)
            except OSError:
                time.sleep(LOOK_S)
                continue
            line.recv(1)  # ends with the process at the other end
            return
