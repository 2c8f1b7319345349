"""An AIME API server for tests: the wire, the state of jobs and the rules by which they lapse, as 0.9.6 was observed.

Times are settings, so that an hour of its rules fits into a second. What it forgets, refuses with 500 or answers with
`null` is as the real one does.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from camelid.server.listen import listen, url_of

KEY, CLIENT_KEY = "worker-secret", "client-secret"
OUTPUTS = (
    "text",
    "num_generated_tokens",
    "model_name",
    "max_seq_len",
    "prompt_length",
    "current_context_length",
    "error",
)
FAILURE = {"description": "Internal Server Error", "status": 500, "message": "The application encountered an error."}


@dataclass
class ServedJob:
    inputs: dict[str, Any]
    created: float = field(default_factory=time.monotonic)
    state: str = "queued"
    heard: float | None = None  # when progress came last; None: counted from `created`
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None


class AimeServer:
    """One endpoint of one job type."""

    def __init__(self, *, request_timeout_s: float = 1.0, inactivity_s: float = 4.0) -> None:
        self.request_timeout_s, self.inactivity_s = request_timeout_s, inactivity_s
        self.jobs: dict[str, ServedJob] = {}
        self.workers: set[str] = set()
        self.calls: list[tuple[str, Any]] = []
        self.cancel: set[str] = set()  # jobs that the next progress is answered with a cancellation of
        self.change: dict[str, dict[str, Any]] = {}
        self.is_down = False  # every call is answered with 503
        self._queue: deque[str] = deque()
        self._arrived = asyncio.Condition()

    # ── the client's side ──

    async def put(self, *, age_s: float = 0.0, **inputs: Any) -> str:
        """Queue a job as a client's request does; `age_s`: it has been waiting for so long."""
        job_id = f"{uuid.uuid4()}#{len(self.jobs)}"
        usual = {"prompt_input": "", "top_k": 40, "top_p": 0.9, "temperature": 0.8, "max_gen_tokens": 2000}
        session = {"client_session_auth_key": CLIENT_KEY, "wait_for_result": False, "job_id": job_id}
        self.jobs[job_id] = ServedJob({**usual, **inputs, **session, "start_time": time.time()})
        self.jobs[job_id].created -= age_s
        async with self._arrived:
            self._queue.append(job_id)
            self._arrived.notify_all()
        return job_id

    def state(self, job_id: str) -> str:
        """Return the state of a job as a client that asks for its progress is told, which is when it lapses."""
        job = self.jobs[job_id]
        if job.state == "processing" and time.monotonic() - (job.heard or job.created) > self.inactivity_s:
            job.state = "lapsed"
        return job.state

    async def result(self, job_id: str) -> dict[str, Any]:
        """Wait for the result of a job."""
        while self.jobs[job_id].result is None:
            assert self.state(job_id) != "lapsed", f"{job_id} lapsed"
            await asyncio.sleep(0.01)
        return self.jobs[job_id].result or {}

    def told(self, path: str) -> list[Any]:
        """Return the bodies that were sent to a path."""
        return [body for called, body in self.calls if called == path]

    # ── the worker's side ──

    async def login(self, body: dict[str, Any]) -> Response:
        worker = body["worker_parameters"]
        if worker["job_type"] != "llama3":
            return _failure()
        if worker["auth_key"] != KEY:
            return _json({"success": False, "error_msg": f"Worker not authorized on job type {worker['job_type']}"})
        self.workers.add(worker["auth"])
        return _json({"success": True, "request_timeout": self.request_timeout_s, "api_server_version": "0.9.6"})

    async def job_request(self, body: dict[str, Any]) -> Response:
        if body["auth_key"] != KEY:
            return _json(None)
        if body["auth"] not in self.workers:
            name = body["auth"]
            reason = f"Worker {name} needs to login before being allowed to make job requests"
            return _json({"cmd": "error", "msg": reason})
        try:
            async with asyncio.timeout(self.request_timeout_s), self._arrived:
                await self._arrived.wait_for(lambda: self._queue)
        except TimeoutError:
            return _json({"cmd": "no_job"})
        taken = [self._queue.popleft() for _ in range(min(body["max_job_batch"], len(self._queue)))]
        for job_id in taken:
            self.jobs[job_id].state = "processing"
        return _json({"cmd": "job", "endpoint_name": "llama3_chat", "job_data": [self.jobs[i].inputs for i in taken]})

    async def job_progress(self, body: Any) -> Response:
        entries = body if isinstance(body, list) else [body]
        if any(entry["auth_key"] != KEY or entry["auth"] not in self.workers for entry in entries):
            return _json({"success": False, "error_msg": "Worker not authorized on job type llama3"})
        if any(self.jobs[e["job_id"]].state != "processing" if e["job_id"] in self.jobs else True for e in entries):
            return _failure()
        return _json([self._progressed(entry) for entry in entries])

    def _progressed(self, entry: dict[str, Any]) -> dict[str, Any]:
        job = self.jobs[entry["job_id"]]
        job.heard, job.progress = time.monotonic(), entry
        answer: dict[str, Any] = {"success": True}
        if entry["job_id"] in self.cancel:
            answer |= {"job_id": entry["job_id"], "canceled": True}
        if entry["job_id"] in self.change:
            answer |= {"progress_input_params": self.change.pop(entry["job_id"])}
        return answer

    async def job_result(self, body: dict[str, Any]) -> Response:
        if body["auth"] not in self.workers or body["auth_key"] != KEY:
            return _json({"success": False, "error_msg": "Worker not authorized"})
        job = self.jobs.get(body["job_id"])
        if job is None:
            return _json({"cmd": "warning", "msg": f"Job with job id {body['job_id']} not found in worker!"})
        if job.result is not None:
            return _failure()
        job.state, job.result = "done", {name: body[name] for name in OUTPUTS if name in body}
        return _json({"cmd": "ok"})

    def app(self) -> Starlette:
        """Return the server as an application."""
        handlers = {
            "/worker_login": self.login,
            "/worker_job_request": self.job_request,
            "/worker_job_progress": self.job_progress,
            "/worker_job_result": self.job_result,
        }

        def route(path: str) -> Route:
            async def answer(request: Request) -> Response:
                body = json.loads(await request.body())
                self.calls.append((path, body))
                return _json({"cmd": "error"}, 503) if self.is_down else await handlers[path](body)

            return Route(path, answer, methods=["POST"])

        return Starlette(routes=[route(path) for path in handlers])


@asynccontextmanager
async def served(server: AimeServer) -> AsyncIterator[str]:
    """Serve on a free port of this machine while the block runs; yields the URL."""
    config = uvicorn.Config(server.app(), log_level="error", lifespan="off")
    uvicorn_server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(uvicorn_server._serve(sockets=[listener]))
        try:
            yield url_of(listener)
        finally:
            uvicorn_server.should_exit = uvicorn_server.force_exit = True
            await serving


def _json(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status)


def _failure() -> Response:
    return JSONResponse(FAILURE, 500)
