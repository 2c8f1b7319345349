"""Test against a real counterpart that does not fit into the environment of the other tests.

    python -m tools.counterparts NAME [pytest's arguments…]

`tests/counterparts/NAME.txt` pins what the counterpart needs. It is installed once for each content of that file, under
`~/.cache/camelid-counterparts`, and used again; then `tests/counterparts/NAME` is run. Where the file lists pytest, the
tests run inside of that environment, with the `camelid` of the environment that called on the path: they may import
both. Where it does not (what the counterpart needs and what Camelid needs exclude each other), they run here. Both
interpreters are named to them: COUNTERPART_PYTHON and CAMELID_PYTHON.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = ROOT / "tests" / "counterparts"
_LISTS_PYTEST = re.compile(r"^pytest\b", re.MULTILINE)


def main(name: str, arguments: Sequence[str]) -> int:
    """Build the environment if need be, run the tests in it, and return pytest's status."""
    requirements = HERE / f"{name}.txt"
    if not requirements.is_file():
        known = ", ".join(sorted(file.stem for file in HERE.glob("*.txt")))
        print(f"error: there is no counterpart {name!r}\n\nhint: there are {known}", file=sys.stderr)
        return 2
    counterpart = environment(name, requirements)
    is_inside = _LISTS_PYTEST.search(requirements.read_text(encoding="utf-8"))
    with our_package() as folder:
        command = [str(counterpart) if is_inside else sys.executable, "-m", "pytest", "-c", str(HERE / "pytest.ini")]
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "COUNTERPART_PYTHON": str(counterpart),
            "CAMELID_PYTHON": sys.executable,
        }
        environ.pop("PYTEST_ADDOPTS", None)  # what the other tests are run with need not be installed there
        return subprocess.run([*command, str(HERE / name), *arguments], cwd=ROOT, env=environ, check=False).returncode


def environment(name: str, requirements: Path) -> Path:
    """Return the interpreter of the environment that `requirements` pins, built if it is not there.

    Raises CalledProcessError when something cannot be installed.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(version.encode() + requirements.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "camelid-counterparts"
    folder = cache / f"{name}-{digest}"
    python, complete = folder / "bin" / "python", folder / "complete"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two who need it at once: the second finds it built
        if not complete.exists():
            print(f"building {folder}, once", flush=True)
            shutil.rmtree(folder, ignore_errors=True)  # of one that was broken off
            _build(folder, python, requirements)
            complete.touch()
    return python


def _build(folder: Path, python: Path, requirements: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"]
    else:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    environ = {key: value for key, value in os.environ.items() if key != "PIP_NO_COMPILE"}
    subprocess.run([*install, "-r", str(requirements)], check=True, env=environ)


@contextmanager
def our_package() -> Iterator[Path]:
    """Yield a folder that holds the `camelid` of this interpreter and nothing else of its environment."""
    found = find_spec("camelid")
    if found is None or found.origin is None:
        raise SystemExit("error: camelid is not installed for this interpreter")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "camelid").symlink_to(Path(found.origin).parent)
        yield Path(folder)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {__spec__.name if __spec__ else 'counterparts'} NAME [pytest's arguments…]")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
