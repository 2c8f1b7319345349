"""From our errors to HTTP: one table for all dialects.

A `Problem` is what went wrong in HTTP's terms, still without any dialect's wording; a dialect's envelope turns it into
a body. What only HTTP can get wrong (an unknown path, a body too large) is a `Problem` from the start and no member of
the error tree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response

from camelid import errors
from camelid.errors import CamelidError

SHORTLY_S = 1.0  # when to come back, where nothing better is known

# The most special class first in each error's own line of ancestors wins. Codes are OpenAI's where OpenAI has one.
_STATUS: Mapping[type[CamelidError], tuple[int, str]] = {
    errors.NotFound: (404, "model_not_found"),
    errors.InvalidRequest: (400, "invalid_value"),
    errors.BadGrammar: (400, "invalid_grammar"),
    errors.ContextOverflow: (400, "context_length_exceeded"),
    errors.TemplateError: (400, "template_error"),
    errors.Unauthorized: (401, "invalid_api_key"),
    errors.Overloaded: (503, "server_overloaded"),
    errors.OutOfMemory: (503, "out_of_memory"),
    errors.Unavailable: (503, "unavailable"),
    errors.Unjudged: (503, "safety_check_failed"),
    errors.Cancelled: (499, "cancelled"),  # nginx's number for a client that left; nobody reads it but the log
    errors.MissingDependency: (501, "missing_dependency"),
    errors.FormatError: (500, "model_error"),
    errors.ModelError: (500, "model_error"),
    errors.RequestsFailed: (500, "request_failed"),
    CamelidError: (500, "internal_error"),
}

_CODES: Mapping[int, str] = {
    400: "bad_request",
    403: "forbidden",
    404: "unknown_url",
    405: "method_not_allowed",
    408: "request_timeout",
    411: "length_required",
    413: "request_too_large",
    414: "request_line_too_long",
    415: "unsupported_media_type",
    431: "request_headers_too_large",
    503: "unavailable",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """What went wrong.

    `field` names the part of the request; `close` ends the connection, because its next bytes cannot be trusted or
    wanted.
    """

    status: int
    code: str
    message: str
    field: str | None = None
    retry_after_s: float | None = None
    details: Mapping[str, int] = dataclasses.field(default_factory=dict)
    close: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The response headers that this problem brings."""
        headers = {"content-type": "application/json"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
            headers["retry-after-ms"] = str(max(1, math.ceil(self.retry_after_s * 1000)))
        if self.status == 401:
            headers["www-authenticate"] = 'Bearer realm="camelid"'
        if self.close:
            headers["connection"] = "close"
        return headers


Envelope = Callable[[Problem], bytes]


@dataclasses.dataclass(frozen=True)
class HeadedEnvelope:
    """An envelope of a dialect that says something of an error in headers, too."""

    body: Envelope
    headers: Callable[[Problem], Mapping[str, str]]

    def __call__(self, problem: Problem) -> bytes:
        """Return the body."""
        return self.body(problem)


def http_problem(status: int, message: str, *, field: str | None = None, close: bool = False) -> Problem:
    """Return a problem that only HTTP knows."""
    return Problem(status, _CODES.get(status, "http_error"), message, field=field, close=close)


def problem_of(error: CamelidError) -> Problem:
    """Describe `error` in HTTP's terms."""
    status, code = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    return Problem(
        status,
        code,
        f"{error.message}. {_sentence(error.hint)}" if error.hint else error.message,
        field=error.field if isinstance(error, errors.InvalidRequest) else None,
        retry_after_s=_retry_after(error),
        close=isinstance(error, errors.Unavailable),
        details={"num_tokens": error.num_tokens, "limit": error.limit}
        if isinstance(error, errors.ContextOverflow)
        else {},
    )


def internal_problem() -> Problem:
    """Return what a caller is told about a bug: nothing but where to look."""
    return Problem(
        500, "internal_error", "something went wrong in the server; its log has the details under this request's id"
    )


def problem_of_http(error: HTTPException) -> Problem:
    """Describe what the router refused: no such path, or not with this method."""
    if error.status_code == 404:
        return http_problem(404, "there is nothing at this path; the API is under /v1")
    if error.status_code == 405:
        return http_problem(405, "this path does not take this method")
    return http_problem(error.status_code, str(error.detail), close=error.status_code == 413)


def respond(problem: Problem, envelope: Envelope) -> Response:
    """Return `problem` in a dialect's envelope."""
    extra = envelope.headers(problem) if isinstance(envelope, HeadedEnvelope) else {}
    return Response(envelope(problem), problem.status, {**problem.headers, **extra})


def _retry_after(error: CamelidError) -> float | None:
    if isinstance(error, errors.Overloaded):
        return error.retry_after_s
    return SHORTLY_S if isinstance(error, errors.Unavailable) else None


def _sentence(hint: str) -> str:
    return hint[:1].upper() + hint[1:]
