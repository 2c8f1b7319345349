"""The process that a peer runs in: `python -P adapter.py with_NAME` reads one JSON order a line, answers with one line.

Imports nothing but the standard library: it is run by whatever interpreter has the peer installed. What a peer prints
goes to standard error, so that it cannot get among the answers.

Orders: {"do": "open", …Opening…}, {"do": "work", …Job…}. Answers: {"ok": …} or {"error": "a sentence"}.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Opening:
    """What to open: a GGUF file, or, for peers that read none, a model of the same shape. `folder` keeps what was
    converted.
    """

    model: str
    shape: dict[str, Any]  # dim, num_layers, num_heads, num_kv_heads, head_dim, ffn_dim, vocab_size, is_tied
    threads: int
    context: int  # tokens of a stream
    streams: int  # most at once
    folder: str
    device: str = "cpu"  # or gpu, for those that can


@dataclass(frozen=True)
class Job:
    """Prompts of one length, one a stream, each to be continued by exactly `new_tokens` tokens.

    With `beams` above 1 there is one prompt, and the best answer is searched for.
    """

    prompts: list[list[int]]
    new_tokens: int
    beams: int = 1


@dataclass(frozen=True)
class Done:
    """What a job took: until every stream had its first token; then, for so many further tokens of all streams, or of
    all beams.
    """

    prompt_s: float
    decode_s: float
    decode_tokens: int


@dataclass(frozen=True)
class About:
    """What a peer says of itself: version, weights, how it was built and set."""

    version: str
    weights: str
    how: str


class Peer(Protocol):
    """An engine with a model open."""

    about: About

    def work(self, job: Job) -> Done | None:
        """Do a job. None: this engine does not do several streams at once, or search."""


def main() -> int:
    """Serve orders until standard input ends."""
    _leave_with_the_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer: Peer | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order.pop("do") == "open":
                peer = _load(sys.argv[1]).open_peer(Opening(**order))
                said: Any = asdict(peer.about)
            else:
                done = peer.work(Job(**order)) if peer is not None else None
                said = asdict(done) if done is not None else None
            answer = {"ok": said}
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is what there is to say of it
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _leave_with_the_parent() -> None:
    """Be killed when the comparing process dies, also while halted: then the end of standard input is never seen."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _load(name: str) -> Any:
    """Import the adapter that lies beside this file, by its place: no package of that name is searched for."""
    sys.modules["adapter"] = sys.modules[__name__]  # under the name that adapters import it by
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
