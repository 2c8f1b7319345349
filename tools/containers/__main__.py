"""Carry a Dockerfile out without Docker, start what it makes, and ask it.

    python -m tools.containers [--build-arg NAME=VALUE …] [--keep FOLDER]

Every COPY and RUN happens in the folder of its stage, with the stage's variables; then the entry point is started as
the image's user, has to become ready, to answer, and to leave with 0 on the stop signal. The base image is this
machine's system and Python.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from .context import files
from .dockerfile import Stage, Step, stages
from .rooms import Room, can_be_made

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "containers" / "Dockerfile"
READY_S, LEAVE_S = 120.0, 60.0
ASKED = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 8}


def build(found: list[Stage], folder: Path) -> dict[str, Room]:
    """Carry out every step of every stage; returns the rooms by name. Raises CalledProcessError."""
    rooms: dict[str, Room] = {}
    for stage in found:
        room = rooms[stage.name] = Room(folder / stage.name, {})
        for step in stage.steps:
            _carry_out(step, stage, room, rooms)
        room.variables |= stage.variables
    return rooms


def _carry_out(step: Step, stage: Stage, room: Room, rooms: dict[str, Room]) -> None:
    if step.name not in ("RUN", "COPY"):
        return
    began = time.monotonic()
    if step.name == "RUN":
        room.run(step.arguments or ("/bin/sh", "-c", step.text), "0:0", stage.arguments)
    else:
        _copy(step, room, rooms)
    print(f"{time.monotonic() - began:7.1f} s  [{stage.name}] {step.name} {step.text[:100]}", flush=True)


def _copy(step: Step, room: Room, rooms: dict[str, Room]) -> None:
    source, target = step.text.split()
    if "from" in step.flags:
        room.take(rooms[step.flags["from"]].root / source.lstrip("/"), target)
    else:
        for file in files(ROOT):
            room.take(ROOT / file, f"{target}/{file}")
    if "chown" in step.flags:
        user, _, its_group = step.flags["chown"].partition(":")
        for path in (room.root / target.lstrip("/"), *(room.root / target.lstrip("/")).rglob("*")):
            os.chown(path, int(user), int(its_group), follow_symlinks=False)


def try_out(stage: Stage, room: Room) -> str:
    """Start the image as its user would be, ask it, and stop it; returns what it answered.

    Raises RuntimeError when it does not become ready, does not answer or does not leave.
    """
    entry, command, user = stage.last("ENTRYPOINT"), stage.last("CMD"), stage.last("USER")
    if entry is None or command is None or user is None or entry.arguments is None or command.arguments is None:
        raise RuntimeError("the image must have an entry point, a command and a user, in exec form")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*entry.arguments, *command.arguments]
    more = {"CAMELID_INSECURE_NO_KEY": "1", "CAMELID_PORT": str(port)}
    process = subprocess.Popen(room.command(words, user.text), env=room.environment(more), cwd="/")
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url)
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(ASKED).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            said = str(json.loads(answer.read())["choices"][0]["message"]["content"])
        _stop(process)
    finally:
        process.kill()
        process.wait()
    return said


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the image did not become ready (exit code {process.poll()})")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Send the stop signal to the first process of the room, which is what a container runtime does."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    if code := process.wait(LEAVE_S):
        raise RuntimeError(f"the image left with {code}")


def main() -> int:
    """Carry out, start, ask, stop; 0 if all of it went well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", type=Path, help="Leave what was made in this new folder.")
    arguments = parser.parse_args()
    if not can_be_made():
        print("error: this needs Linux and the right to mount (run it as root)", file=sys.stderr)
        return 2
    given = dict(one.partition("=")[::2] for one in arguments.build_arg)
    found = stages(DOCKERFILE.read_text(encoding="utf-8"), given)
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    try:
        rooms = build(found, folder)
        last = rooms[found[-1].name]
        packages = json.loads((last.root / "opt/camelid/sbom.cdx.json").read_text())["components"]
        print(f"the list of parts names {len(packages)} packages")
        print(f"asked what 17 + 25 is, it says {try_out(found[-1], last)!r}")
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
