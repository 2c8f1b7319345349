"""Folders in which steps run as if they were the root of a file system.

A room has what a small image has, a system and a Python, borrowed read-only from this machine; everything else in it is
its own. Needs Linux, `unshare` and `chroot`, and the right to mount, as root has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

BORROWED = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/proc")
OWN = ("tmp", "opt", "src")


def can_be_made() -> bool:
    """Say whether rooms work here."""
    try:
        return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Room:
    """A root folder. `variables` are what steps find in their environment."""

    def __init__(self, root: Path, variables: Mapping[str, str]) -> None:
        self.root, self.variables = root, dict(variables)
        root.mkdir(mode=0o755)
        for name in OWN:
            (root / name).mkdir(mode=0o755)
        (root / "tmp").chmod(0o1777)

    def command(self, words: Sequence[str], user: str) -> list[str]:
        """Return the command that runs words in here as a user."""
        script = ["set -e"]
        for path in (*BORROWED, sys.base_prefix):
            if not os.path.isdir(path) or os.path.islink(path):
                continue
            target = self.root / path.lstrip("/")
            script.append(f"mkdir -p '{target}' && mount --rbind '{path}' '{target}'")
        for path in BORROWED:
            if os.path.islink(path) and not (self.root / path.lstrip("/")).is_symlink():
                script.append(f"ln -s '{os.readlink(path)}' '{self.root / path.lstrip('/')}'")
        script.append(f'exec {shutil.which("chroot") or "/usr/sbin/chroot"} --userspec={user} "{self.root}" "$@"')
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(script), "sh", *words]

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return a step's environment: no variable of this process but pip's and the proxies'."""
        kept = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or "proxy" in key.lower()}
        path = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"
        found = {"HOME": "/tmp", **kept, **self.variables, **more}
        return found | {"PATH": f"{found['PATH']}:{path}" if "PATH" in found else path}

    def run(self, words: Sequence[str], user: str, more: Mapping[str, str]) -> None:
        """Run a step to its end. Raises CalledProcessError."""
        subprocess.run(self.command(words, user), env=self.environment(more), check=True, cwd="/")

    def take(self, source: Path, target: str) -> None:
        """Copy a file or a folder in."""
        into = self.root / target.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, into, symlinks=True, dirs_exist_ok=True)
        else:
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into)
