"""The class that Truss serves: it runs `camelid serve` beside itself and hands every call on to it.

This file is copied into the folder that `camelid deploy truss` writes and runs inside of Truss's server, so it uses
nothing but the standard library and what that server has. Camelid has an environment of its own in the container,
because the two need different versions of the same packages. Change what you like: `preprocess` and `postprocess`
work as in every Truss, and `predict` may look at a body before it is sent on.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from fastapi import HTTPException
from starlette.responses import Response, StreamingResponse

START_S = 3600  # a large model is fetched on the way
POLL_S = 0.1
CONNECT_S = 5
SILENCE_S = 600  # between two pieces of an answer

# Truss's server ends by a signal and calls nobody; what its end does close is this pipe.
_KEEPER = """
import subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=lambda: (sys.stdin.read(), server.terminate()), daemon=True).start()
sys.exit(server.wait())
"""


class Model:
    """A Truss model that is answered by Camelid."""

    def __init__(self, config: Mapping[str, Any], data_dir: Path, secrets: Mapping[str, str]) -> None:
        """Take what Truss gives; nothing is started yet."""
        self._data_dir = Path(data_dir).resolve()
        self._secrets = secrets
        self._needs_hub_key = "hf_access_token" in (config.get("secrets") or {})
        self._url = f"http://127.0.0.1:{os.environ.get('CAMELID_PORT', '11434')}"
        self._server: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between this process and the next one

    def load(self) -> None:
        """Start Camelid and wait until it has loaded its model. Raises RuntimeError if it ends before."""
        model = os.environ["CAMELID_MODEL"]
        if model.startswith("data/"):
            model = str(self._data_dir / model.removeprefix("data/"))
        command = [*shlex.split(os.environ.get("CAMELID_COMMAND", "camelid")), "serve", model]
        keeper = [sys.executable, "-c", _KEEPER, *command]
        self._server = subprocess.Popen(keeper, env=self._environment(), stdin=subprocess.PIPE)
        until = time.monotonic() + START_S
        while not self.is_healthy():
            if self._server.poll() is not None:
                raise RuntimeError(f"camelid ended with status {self._server.returncode}; the log says why")
            if time.monotonic() > until:
                raise RuntimeError(f"camelid was not ready within {START_S} s")
            time.sleep(POLL_S)

    def is_healthy(self) -> bool:
        """Tell whether requests are welcome."""
        if self._server is None or self._server.poll() is not None:
            return False
        try:
            return self._session.get(f"{self._url}/readyz", timeout=CONNECT_S).status_code == 200
        except requests.RequestException:
            return False

    def predict(self, model_input: Any) -> Any:
        """Answer as the route `predict` does: a value, or pieces of text where a stream was asked for."""
        answer = self._post("/predict", model_input)
        if answer.status_code != 200:
            raise HTTPException(answer.status_code, _error_of(answer))
        if answer.headers["content-type"] == "application/json":
            return answer.json()
        return _pieces(answer)

    def chat_completions(self, model_input: Any) -> Response:
        """Answer OpenAI's chat completions."""
        return self._passed_on("/v1/chat/completions", model_input)

    def completions(self, model_input: Any) -> Response:
        """Answer OpenAI's completions."""
        return self._passed_on("/v1/completions", model_input)

    def embeddings(self, model_input: Any) -> Response:
        """Answer OpenAI's embeddings."""
        return self._passed_on("/v1/embeddings", model_input)

    def messages(self, model_input: Any) -> Response:
        """Answer Anthropic's messages."""
        return self._passed_on("/v1/messages", model_input)

    def responses(self, model_input: Any) -> Response:
        """Answer OpenAI's responses."""
        return self._passed_on("/v1/responses", model_input)

    def _environment(self) -> dict[str, str]:
        """Return the variables of the server: Truss's, our address, and the key of the Hugging Face hub."""
        given = dict(os.environ, CAMELID_HOST="127.0.0.1")
        if self._needs_hub_key:
            given["HF_TOKEN"] = self._secrets["hf_access_token"]
        return given

    def _post(self, path: str, body: Any) -> requests.Response:
        try:
            return self._session.post(
                self._url + path,
                data=json.dumps(body, default=_plain),
                headers={"content-type": "application/json"},
                timeout=(CONNECT_S, SILENCE_S),
                stream=True,
            )
        except requests.RequestException as error:
            raise HTTPException(503, f"camelid does not answer: {type(error).__name__}") from error

    def _passed_on(self, path: str, body: Any) -> Response:
        answer = self._post(path, body)
        kind = answer.headers.get("content-type", "application/json")
        if kind.startswith("text/event-stream"):
            return StreamingResponse(_pieces(answer), media_type=kind)
        return Response(answer.content, answer.status_code, media_type=kind)


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    """Yield an answer as it comes, and hang up when nobody wants the rest."""
    with answer:
        yield from answer.iter_content(chunk_size=None)


def _error_of(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]


def _plain(value: Any) -> Any:
    """Return numbers and arrays of numpy as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no part of a request")
