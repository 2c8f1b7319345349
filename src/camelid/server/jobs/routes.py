"""The routes of `async_predict`, as Baseten's gateway has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from camelid.errors import InvalidRequest, NotFound

from ..decode import check_depth, decode, read_body
from ..limits import Limits
from ..predict.shapes import PREDICT, ErrorReply
from .queue import Delivery, Job, JobQueue, Status, new_id
from .webhook import check_url

PATHS = ("/async_predict", "/production/async_predict", "/development/async_predict")
DEPLOYED_PATHS = tuple(f"/{kind}/{{which}}/async_predict" for kind in ("environments", "deployment", "model_versions"))
MOST_BYTES = 256 * 1024
_LONGEST_WAIT_S = 259_200


class RetryConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How often a job is tried, and with which pauses."""

    max_attempts: int = 3
    initial_delay_ms: int = 1000
    max_delay_ms: int = 5000


class AsyncBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request that is answered later."""

    model_input: dict[str, Any]
    webhook_endpoint: str | None = None
    priority: int = 0
    max_time_in_queue_seconds: int = 600
    inference_retry_config: RetryConfig | None = None


class AsyncReply(msgspec.Struct, kw_only=True):
    """The name of a job that was taken."""

    request_id: str


_TAKEN = "the request was taken, and will be answered"
_BODY = msgspec.json.Decoder(AsyncBody)


class JobRoutes:
    """The handlers, over one queue; without one they say how to get it."""

    def __init__(
        self,
        queue: JobQueue | None,
        check: Callable[[object], None],
        wake: Callable[[], None],
        hosts: tuple[str, ...],
        limits: Limits,
    ) -> None:
        """`check` raises InvalidRequest for an input that cannot be answered; `wake` is called for each new job."""
        self._queue_or_none, self._check, self._wake = queue, check, wake
        self._hosts, self._limits = hosts, limits

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["predict"])
        for path in PATHS:
            PREDICT.add(routes, "POST", path, self.take, body=AsyncBody, reply=AsyncReply, created=_TAKEN)
        for path in DEPLOYED_PATHS:
            PREDICT.add(routes, "POST", path, self.take_deployed, body=AsyncBody, reply=AsyncReply, created=_TAKEN)
        PREDICT.add(routes, "GET", "/async_request/{identity}", self.show)
        PREDICT.add(routes, "DELETE", "/async_request/{identity}", self.cancel)
        return routes

    async def take(self, request: Request) -> Response:
        """Take a job; its name is returned when it is on disk."""
        data = await read_body(request, self._limits)
        if len(data) > MOST_BYTES:
            raise InvalidRequest(f"the body must have at most {MOST_BYTES} bytes, got {len(data)}")
        queue, body = self._queue, decode(data, _BODY)
        job = self._job(body, _owner(request))
        await anyio.to_thread.run_sync(queue.add, job)
        self._wake()
        return JSONResponse({"request_id": job.id}, 201)

    async def take_deployed(self, request: Request, which: str) -> Response:
        """Take a job, whichever deployment is asked for."""
        return await self.take(request)

    async def show(self, request: Request, identity: str) -> Response:
        """Tell how a job is."""
        job = await anyio.to_thread.run_sync(self._queue.find, identity, _owner(request))
        if job is None:
            raise _unknown(identity)
        return JSONResponse(shown(job))

    async def cancel(self, request: Request, identity: str) -> Response:
        """Cancel a job that nobody has begun."""
        owner = _owner(request)
        is_canceled = await anyio.to_thread.run_sync(self._queue.cancel, identity, owner)
        if not is_canceled and await anyio.to_thread.run_sync(self._queue.find, identity, owner) is None:
            raise _unknown(identity)
        told = "it is canceled" if is_canceled else "only a request that is QUEUED can be canceled"
        return JSONResponse({"request_id": identity, "canceled": is_canceled, "message": told})

    @property
    def _queue(self) -> JobQueue:
        if self._queue_or_none is None:
            raise NotFound("this server keeps no queue", hint="start it with --async-queue FILE")
        return self._queue_or_none

    def _job(self, body: AsyncBody, owner: str) -> Job:
        retries = body.inference_retry_config or RetryConfig()
        _within("priority", body.priority, 0, 2)
        _within("max_time_in_queue_seconds", body.max_time_in_queue_seconds, 10, _LONGEST_WAIT_S)
        _within("inference_retry_config.max_attempts", retries.max_attempts, 1, 10)
        _within("inference_retry_config.initial_delay_ms", retries.initial_delay_ms, 0, 10_000)
        _within("inference_retry_config.max_delay_ms", retries.max_delay_ms, 0, 60_000)
        if body.webhook_endpoint is not None:
            check_url(body.webhook_endpoint, self._hosts)
        check_depth(body.model_input, self._limits.json_depth, "model_input")
        if body.model_input.get("stream"):
            raise InvalidRequest("a request that is answered later cannot be streamed", field="model_input.stream")
        given = {**body.model_input, "stream": False}
        self._check(given)
        now = time.time()
        return Job(
            id=new_id(),
            owner=owner,
            input=json.dumps(given).encode(),
            webhook=body.webhook_endpoint,
            priority=body.priority,
            created_at=now,
            expires_at=now + body.max_time_in_queue_seconds,
            max_attempts=retries.max_attempts,
            delay_s=retries.initial_delay_ms / 1000,
            max_delay_s=retries.max_delay_ms / 1000,
            delivery=Delivery.NONE if body.webhook_endpoint is None else Delivery.PENDING,
            status_at=now,
        )


def shown(job: Job) -> dict[str, Any]:
    """Return what is told of a job. Where no webhook was named, the answer is here for an hour."""
    told: dict[str, Any] = {
        "request_id": job.id,
        "model_id": "model",
        "deployment_id": "model",
        "status": job.status,
        "webhook_status": job.delivery,
        "created_at": _time(job.created_at),
        "status_at": _time(job.status_at),
        "errors": [dict(error) for error in job.errors],
    }
    if job.webhook is None and job.status is Status.SUCCEEDED and job.result is not None:
        told["data"] = json.loads(job.result)
    return told


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of the bodies, for the OpenAPI document."""
    return PREDICT.components((AsyncBody, AsyncReply, ErrorReply))


def _owner(request: Request) -> str:
    return str(request.scope.get("state", {}).get("owner", ""))


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidRequest(f"{name} must be {least}–{most}, got {value}", field=name)


def _unknown(identity: str) -> NotFound:
    return NotFound(f"there is no request {identity[:64]!r}", hint="it is forgotten an hour after its end")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
