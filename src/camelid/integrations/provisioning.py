"""A server that runs is given its model: fetched or made there, checked, and loaded.

What a container does that runs to its end before a task begins. It speaks Ollama's API, so that the server may be
Ollama's own. Done twice it does nothing the second time, and it goes on where a server was restarted in between: what
was fetched so far is kept there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from camelid.errors import CamelidError, InvalidRequest, NotFound, ProtocolError, Unavailable
from camelid.store.modelfile import Modelfile, parse_modelfile

if TYPE_CHECKING:
    import urllib3

_log = logging.getLogger(__name__)

AGAIN_S = 1.0  # between two tries
CONNECT_S, SILENT_S = 10.0, 600.0  # a server that digests a large file says nothing for a while
PIECE_BYTES = 1 << 20
MOST_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """A model that a server is to have. Without `modelfile` it is fetched by its name."""

    name: str
    modelfile: str | None = None
    is_loaded: bool = True  # before we are done, so that the first request need not wait for it


@dataclass(frozen=True)
class Clock:
    """Time, for tests to replace."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def provision(server: str, wanted: Wanted, deadline_s: float, clock: Clock | None = None) -> None:
    """Give a server its model, and try again until `deadline_s` where it does not answer (yet).

    Raises Unavailable when the time is over, NotFound for a file that a Modelfile names and that is not here, and
    CamelidError with the server's own words for what it refuses.
    """
    clock = clock or Clock()
    parse_modelfile(wanted.modelfile or f"FROM {wanted.name}")  # before anybody waits
    until = clock.now() + deadline_s
    line = Line(server.rstrip("/"))
    while True:
        try:
            return _provision(line, wanted)
        except Unavailable as error:
            if clock.now() + AGAIN_S > until:
                hint = "give it longer: --deadline-seconds"
                raise Unavailable(f"no model after {deadline_s:g} s: {error.message}", hint=hint) from error
            _log.info("%s; trying again", error.message)
        clock.sleep(AGAIN_S)


def _provision(line: Line, wanted: Wanted) -> None:
    line.check_that_it_answers()
    if wanted.modelfile is None:
        if line.shown(wanted.name) is not None:
            _log.info("%s is there already", wanted.name)
        else:
            line.do("/api/pull", {"name": wanted.name, "model": wanted.name, "stream": True})
    else:
        _create(line, wanted.name, parse_modelfile(wanted.modelfile), Path())
    shown = line.shown(wanted.name)
    if shown is None:
        raise CamelidError(f"{line.url} said success and does not have {wanted.name}")
    if wanted.is_loaded and "completion" in shown.get("capabilities", ["completion"]):
        line.do("/api/generate", {"model": wanted.name, "stream": False})
        _log.info("%s is loaded", wanted.name)


def _create(line: Line, name: str, given: Modelfile, folder: Path) -> None:
    """Make a model; files that the Modelfile names are sent, unless the server has them."""
    base = folder / Path(given.base).expanduser()
    adapters = [line.send(_file(folder / path)) for path in given.adapters]
    body: dict[str, Any] = {"name": name, "model": name, "stream": True}
    body |= {"files": {base.name: line.send(base)}} if base.is_file() else {"from": _named(given.base)}
    body |= {"adapters": {f"adapter-{at}.gguf": digest for at, digest in enumerate(adapters)}} if adapters else {}
    texts = {"template": given.template, "system": given.system, "requires": given.requires}
    lists = {
        "license": list(given.licenses),
        "parameters": dict(given.parameter_layer()),
        "messages": [{"role": role, "content": text} for role, text in given.messages],
    }
    body |= {key: text for key, text in texts.items() if text is not None} | {k: v for k, v in lists.items() if v}
    line.do("/api/create", body)


def _named(base: str) -> str:
    if base.startswith(("/", "./", "../", "~")) or base.endswith(".gguf"):
        raise NotFound(f"FROM names {base}, and there is no such file", hint="files of a task's inputs lie under /tmp")
    return base


def _file(path: Path) -> Path:
    if not path.is_file():
        raise NotFound(f"ADAPTER names {path}, and there is no such file", hint="give a LoRA adapter in a GGUF file")
    return path


class Line:
    """Requests to one server; what went wrong on the way is Unavailable, what it refuses CamelidError."""

    def __init__(self, url: str) -> None:
        import urllib3

        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"the server must be a URL, got {url!r}", hint="such as http://localhost:11434")
        self.url = url
        timeout = urllib3.Timeout(connect=CONNECT_S, read=SILENT_S)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False)

    def check_that_it_answers(self) -> None:
        """Raise Unavailable unless it does."""
        self._asked("GET", "/").drain_conn()

    def shown(self, name: str) -> dict[str, Any] | None:
        """Return what the server says of a model; None if it does not have it."""
        answer = self._asked("POST", "/api/show", json={"model": name, "name": name}, allows_missing=True)
        said = _object(answer.read())
        return said if answer.status == 200 else None

    def send(self, file: Path) -> str:
        """Send a file unless it is there, and return its digest."""
        with file.open("rb") as content:
            digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
            path = f"/api/blobs/{digest}"
            if self._asked("HEAD", path, allows_missing=True).status == 404:
                _log.info("sending %s", file)
                length = {"content-length": str(file.stat().st_size)}
                content.seek(0)
                self._asked("POST", path, body=_pieces(content), headers=length).drain_conn()
        return digest

    def do(self, path: str, body: Mapping[str, Any]) -> None:
        """Have something done, log what the server tells of it, and check that it ended well.

        A single object that tells of no failure counts as the end of what has no steps.
        """
        last: dict[str, Any] = {}
        for told in self._told(path, body):
            if "error" in told:
                raise CamelidError(f"{self.url}{path}: {told['error']}")
            if told.get("status") != last.get("status"):
                _log.info("%s", told.get("status", "done"))
            last = told
        if last.get("status" if body.get("stream") else "done") not in ("success", True):
            raise Unavailable(f"{path} broke off after {last.get('status', 'nothing')!r}")

    def _told(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        import urllib3

        answer = self._asked("POST", path, json=dict(body))
        try:
            while line := answer.readline(MOST_LINE_BYTES):
                yield _object(line)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"{path} broke off: {error}") from error
        finally:
            answer.close()

    def _asked(self, method: str, path: str, *, allows_missing: bool = False, **more: Any) -> urllib3.BaseHTTPResponse:
        """Return an answer whose body is still to be read."""
        import urllib3

        try:
            answer = self._pool.request(method, self.url + path, preload_content=False, **more)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"nobody answers at {self.url}") from error
        if answer.status == 200 or answer.status == 201 or (answer.status == 404 and allows_missing):
            return answer
        said = answer.read(MOST_LINE_BYTES).decode(errors="replace")
        if answer.status in (502, 503, 504):
            raise Unavailable(f"{self.url}{path} answers {answer.status}: {said[:200]}")
        raise CamelidError(f"{self.url}{path} answers {answer.status}: {said[:500]}")


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(PIECE_BYTES):
        yield piece


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line or b"{}")
    except ValueError as error:
        raise ProtocolError(f"what answers is no server of models: {line[:80]!r}") from error
    return found if isinstance(found, dict) else {}
