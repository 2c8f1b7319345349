"""What is said on the wire to an AIME API server, and what its answers mean. Values and pure functions.

Separate from the connection, because the traps are here: answers of one meaning come in several forms, and some with
the status 500. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from camelid import __version__

INTERFACE = f"camelid {__version__}"
VERSION = 1  # of the worker, as the server sees it


@dataclass(frozen=True)
class Identity:
    """Who a worker is to the server. Workers of one server need different names."""

    name: str
    job_type: str
    key: str

    def stamp(self) -> dict[str, Any]:
        """Return what every message begins with."""
        return {"auth": self.name, "job_type": self.job_type, "auth_key": self.key}


@dataclass(frozen=True)
class About:
    """What a worker tells of itself: shown to clients of the server, and to nothing else of use."""

    model: str
    family: str
    size: str
    device: str
    num_gpus: int
    max_batch_size: int


@dataclass(frozen=True)
class LoggedIn:
    """The server knows the worker. It holds a request for jobs for so many seconds at most."""

    request_timeout_s: float


@dataclass(frozen=True)
class Jobs:
    """Jobs to be answered, each as the server's inputs by name. None is a usual answer."""

    jobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Refused:
    """The server says no, in words. `is_stranger`: it would say yes to a worker that has logged in."""

    reason: str
    is_stranger: bool = False


@dataclass(frozen=True)
class Told:
    """What the server answered to the progress of one job. `parameters` are inputs that it changes from now on."""

    is_known: bool
    is_canceled: bool = False
    parameters: Mapping[str, Any] | None = None


def login(identity: Identity, about: About) -> dict[str, Any]:
    """Return the body of /worker_login."""
    worker = {
        **identity.stamp(),
        "interface_version": INTERFACE,
        "version": VERSION,
        "gpu_name": about.device,
        "num_gpus": about.num_gpus,
        "framework": "camelid",
        "framework_version": __version__,
        "pytorch_version": "none",
        "max_batch_size": about.max_batch_size,
    }
    model = {
        "label": about.model,
        "quantization": "Unknown",
        "size": about.size,
        "family": about.family,
        "type": "LLM",
        "repo_name": "Unknown",
    }
    return {"worker_parameters": worker, "model_parameters": model}


def job_request(identity: Identity, free: int, request_timeout_s: float) -> dict[str, Any]:
    """Return the body of /worker_job_request for at most `free` jobs."""
    return {**identity.stamp(), "max_job_batch": free, "request_timeout": request_timeout_s}


def progress(identity: Identity, job_id: str, num_tokens: int, text: str) -> dict[str, Any]:
    """Return an entry of /worker_job_progress. `text` is all of the answer so far."""
    data = {"text": text, "num_generated_tokens": num_tokens}
    return {**identity.stamp(), "job_id": job_id, "progress": num_tokens, "progress_data": data}


def result(identity: Identity, job_id: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of /worker_job_result."""
    return {**identity.stamp(), "job_id": job_id, "version": VERSION, **outputs}


def read_login(answer: Any) -> LoggedIn | Refused:
    """Return what the answer to a login means."""
    if not isinstance(answer, dict):
        return Refused(f"the server answered {answer!r} to the login")
    if answer.get("success"):
        seconds = answer.get("request_timeout")
        return LoggedIn(float(seconds) if isinstance(seconds, (int, float)) and seconds > 0 else 60.0)
    is_starting = answer.get("cmd") == "error"
    return Refused(_words(answer), is_stranger=is_starting)


def read_jobs(answer: Any) -> Jobs | Refused:
    """Return what the answer to a request for jobs means. An empty body is how a bad key is told there."""
    if not isinstance(answer, dict):
        return Refused("the server does not accept the worker's key", is_stranger=True)
    if answer.get("cmd") == "job":
        data = answer.get("job_data")
        jobs = data if isinstance(data, list) else []
        return Jobs(tuple(job for job in jobs if isinstance(job, dict) and isinstance(job.get("job_id"), str)))
    if answer.get("cmd") == "no_job":
        return Jobs()
    return Refused(_words(answer), is_stranger=True)


def read_progress(answer: Any, count: int) -> Sequence[Told] | Refused:
    """Return what the answer to the progress of `count` jobs means, in their order."""
    if isinstance(answer, dict) and count == 1 and answer.get("success"):
        answer = [answer]
    if not isinstance(answer, list) or len(answer) != count:
        return Refused(_words(answer) if isinstance(answer, dict) else "no answer of the agreed form", is_stranger=True)
    return [_told(one) for one in answer]


def read_result(answer: Any) -> Refused | None:
    """Return why a result was not taken; None where it was, or where nobody waits for it any more."""
    if isinstance(answer, dict) and answer.get("cmd") in ("ok", "warning"):
        return None
    return Refused(_words(answer) if isinstance(answer, dict) else "no answer of the agreed form", is_stranger=True)


def _told(answer: Any) -> Told:
    if not isinstance(answer, dict):
        return Told(is_known=False)
    parameters = answer.get("progress_input_params")
    return Told(
        is_known=bool(answer.get("success", True)),
        is_canceled=bool(answer.get("canceled")),
        parameters=parameters if isinstance(parameters, dict) and parameters else None,
    )


def _words(answer: Mapping[str, Any]) -> str:
    said = answer.get("error_msg") or answer.get("msg") or answer.get("error") or "the server said no"
    return str(said)[:300]
