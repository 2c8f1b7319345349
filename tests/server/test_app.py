"""The routes in process, without sockets: who is let in, how errors look, what the models and the description say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fake_runtime import FakeRuntime, model_status
from fastapi import FastAPI
from starlette.routing import Route

from camelid import errors
from camelid.errors import CamelidError, InvalidSetting
from camelid.server.app import create_app
from camelid.server.auth import check_exposure
from camelid.server.errors import problem_of
from camelid.server.guard import OPEN_PATHS
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ServerSettings

HI = {"messages": [{"role": "user", "content": "hi"}]}
PLAIN = ServerSettings()
KEYED = ServerSettings(api_key=("secret-one", "secret-two"))


def app_for(runtime: FakeRuntime, settings: ServerSettings = PLAIN, *, is_started: bool = True) -> FastAPI:
    lifecycle = Lifecycle()
    lifecycle.is_started = is_started
    return create_app(runtime, replace(settings, alias=(("gpt-4", "tiny"),)), default_model="tiny", lifecycle=lifecycle)


def call(app: FastAPI, method: str, path: str, **options: Any) -> httpx2.Response:
    async def once() -> httpx2.Response:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:11434") as client:
            return await client.request(method, path, **options)

    return asyncio.run(once())


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The error of a response, which must be in OpenAI's envelope and in nothing else."""
    body = response.json()
    assert list(body) == ["error"]
    assert {"message", "type", "param", "code"} <= body["error"].keys()
    error: dict[str, Any] = body["error"]
    return error


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    document = app.openapi()
    for path, methods in document["paths"].items():
        yield from ((method.upper(), path.replace("{name}", "x/y")) for method in methods)
    yield from (("GET", route.path) for route in app.routes if isinstance(route, Route))
    yield ("GET", "/")


# who is let in


def test_without_the_key_every_route_but_the_probes_is_shut() -> None:
    app = app_for(FakeRuntime(), KEYED)
    tried = list(routes_of(app))
    assert {path for _, path in tried} >= {*OPEN_PATHS, "/", "/metrics", "/openapi.json", "/v1/chat/completions"}
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in {*(path for _, path in tried), "/nowhere", "/v1/"} - OPEN_PATHS:
            response = call(app, method, path, json=HI)
            assert (response.status_code, path, method) == (401, path, method)
            assert response.headers["www-authenticate"] == 'Bearer realm="camelid"'


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_probes_need_no_key(path: str) -> None:
    assert call(app_for(FakeRuntime(), KEYED), "GET", path).status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer secret-one", 200),
        ("bearer  secret-two", 200),
        ("Bearer secret-three", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Basic secret-one", 401),
        ("secret-one", 401),
        ("Bearer secret-one,secret-two", 401),
    ],
)
def test_a_known_key_lets_in_and_nothing_else_does(header: str, status: int) -> None:
    response = call(app_for(FakeRuntime(), KEYED), "GET", "/v1/models", headers={"authorization": header})
    assert response.status_code == status
    if status == 401:
        assert error_of(response)["code"] == "invalid_api_key"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "no-such-name.invalid"])
def test_a_wide_bind_without_a_key_is_refused_with_a_way_out(host: str) -> None:
    with pytest.raises(InvalidSetting, match="no API key is set") as caught:
        check_exposure(ServerSettings(host=host))
    assert "--api-key" in str(caught.value.hint)
    assert "--insecure-no-key" in str(caught.value.hint)


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(host="127.0.0.1"),
        ServerSettings(host="127.1.2.3"),
        ServerSettings(host="::1"),
        ServerSettings(host="localhost"),
        ServerSettings(host="0.0.0.0", api_key=("k",)),
        ServerSettings(host="0.0.0.0", insecure_no_key=True),
    ],
)
def test_other_binds_are_allowed(settings: ServerSettings) -> None:
    check_exposure(settings)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:11434", 200),
        ("127.0.0.1:11434", 200),
        ("127.9.9.9", 200),
        ("[::1]:11434", 200),
        ("app.localhost:11434", 200),
        ("evil.example", 403),
        ("evil.example:11434", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.1.5:11434", 403),
        ("", 403),
    ],
)
def test_on_loopback_only_names_of_this_machine_are_answered(host: str, status: int) -> None:
    assert call(app_for(FakeRuntime()), "GET", "/v1/models", headers={"host": host}).status_code == status


def test_beyond_loopback_any_name_is_answered() -> None:
    settings = ServerSettings(host="0.0.0.0", api_key=("k",))
    headers = {"host": "llm.example", "authorization": "Bearer k"}
    assert call(app_for(FakeRuntime(), settings), "GET", "/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost:11434", 200),
        ("https://localhost:11434", 403),
        ("http://localhost:3000", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_another_origin_are_not_served(origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"origin": origin}
    response = call(app_for(FakeRuntime()), "POST", "/v1/chat/completions", json=HI, headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_post_that_any_page_could_send_is_refused(kind: str) -> None:
    response = call(
        app_for(FakeRuntime()), "POST", "/v1/chat/completions", content=json.dumps(HI), headers={"content-type": kind}
    )
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")


def test_json_with_a_charset_is_json() -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    response = call(app_for(FakeRuntime()), "POST", "/v1/chat/completions", content=json.dumps(HI), headers=headers)
    assert response.status_code == 200


# errors


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "unknown_url"),
        ("POST", "/v1/images/generations", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("GET", "/docs", 404, "unknown_url"),
    ],
)
def test_what_is_not_there_has_the_envelope_too(method: str, path: str, status: int, code: str) -> None:
    response = call(app_for(FakeRuntime()), method, path, headers={"content-type": "application/json"})
    assert (response.status_code, error_of(response)["code"]) == (status, code)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.NotFound("there is no model 'x'"), 404, "model_not_found"),
        (errors.InvalidRequest("no", field="messages"), 400, "invalid_value"),
        (errors.ContextOverflow(300, 128), 400, "context_length_exceeded"),
        (errors.TemplateError("the template fails"), 400, "template_error"),
        (errors.Overloaded("full", retry_after_s=2.5), 503, "server_overloaded"),
        (errors.OutOfMemory("too large"), 503, "out_of_memory"),
        (errors.Unavailable("gone"), 503, "unavailable"),
        (errors.RequestsFailed(("a",), "NaN"), 500, "request_failed"),
        (CamelidError("odd"), 500, "internal_error"),
    ],
)
def test_an_error_before_the_first_event_is_a_status(error: CamelidError, status: int, code: str, stream: bool) -> None:
    app = app_for(FakeRuntime(script=[error]))
    response = call(app, "POST", "/v1/chat/completions", json=HI | {"stream": stream})
    assert (response.status_code, error_of(response)["code"]) == (status, code)
    assert error_of(response)["message"].startswith(error.message)


def test_a_full_queue_says_when_to_come_back() -> None:
    app = app_for(FakeRuntime(script=[errors.Overloaded("full", retry_after_s=2.5)]))
    response = call(app, "POST", "/v1/chat/completions", json=HI)
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("3", "2500")


def test_every_error_of_the_tree_has_a_status() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CamelidError)}
    for kind in kinds:
        error = kind.__new__(kind)
        CamelidError.__init__(error, "m")
        error.field, error.retry_after_s, error.num_tokens, error.limit = None, 1.0, 1, 1  # type: ignore[attr-defined]
        assert 400 <= problem_of(error).status < 600


def test_a_bug_tells_the_caller_nothing_but_the_request_id() -> None:
    response = call(
        app_for(FakeRuntime(script=[RuntimeError("secret detail")])), "POST", "/v1/chat/completions", json=HI
    )
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert "secret" not in response.text
    assert response.headers["x-request-id"].startswith("req_")


def test_before_the_model_is_loaded_requests_are_told_to_come_back() -> None:
    response = call(app_for(FakeRuntime(), is_started=False), "POST", "/v1/chat/completions", json=HI)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert error_of(response)["message"] == "the model is still being loaded"


# ids, models, description


def test_a_request_keeps_the_id_that_its_client_gave() -> None:
    response = call(app_for(FakeRuntime()), "GET", "/v1/models", headers={"x-request-id": "abc-1.2_3"})
    assert response.headers["x-request-id"] == "abc-1.2_3"


@pytest.mark.parametrize("given", ["a b", "x" * 65, "a\tb", "é"])
def test_an_id_that_could_upset_a_log_is_replaced(given: str) -> None:
    response = call(app_for(FakeRuntime()), "GET", "/v1/models", headers={"x-request-id": given.encode("latin-1")})
    assert response.headers["x-request-id"].startswith("req_")


def test_models_are_listed_under_all_their_names() -> None:
    runtime = FakeRuntime(models=[model_status("tiny"), model_status("org/other:tag")])
    card = {"object": "model", "created": 1_700_000_000, "owned_by": "camelid"}
    assert call(app_for(runtime), "GET", "/v1/models").json() == {
        "object": "list",
        "data": [{"id": name} | card for name in ("tiny", "gpt-4", "org/other:tag")],
    }
    assert call(app_for(runtime), "GET", "/v1/models/org/other:tag").json() == {"id": "org/other:tag"} | card


def test_an_alias_reaches_the_model_and_is_echoed() -> None:
    runtime = FakeRuntime()
    response = call(app_for(runtime), "POST", "/v1/chat/completions", json=HI | {"model": "gpt-4"})
    assert (response.json()["model"], runtime.asked[0].model) == ("gpt-4", "tiny")


def test_without_a_seed_each_request_gets_its_own() -> None:
    runtime = FakeRuntime()
    app = app_for(runtime)
    for _ in range(3):
        call(app, "POST", "/v1/chat/completions", json=HI)
    assert len({request.generation.sampling.seed for request in runtime.asked}) == 3


def test_several_prompts_are_answered_in_one_reply() -> None:
    response = call(app_for(FakeRuntime()), "POST", "/v1/completions", json={"prompt": ["a", [1, 2]], "n": 2})
    assert [(choice["index"], choice["text"]) for choice in response.json()["choices"]] == [
        (index, "Hello") for index in range(4)
    ]
    assert response.json()["usage"]["total_tokens"] == 2 * (7 + 6)


def test_the_description_is_valid_openapi() -> None:
    from openapi_spec_validator import validate

    document = call(app_for(FakeRuntime()), "GET", "/openapi.json").json()
    validate(document)
    assert {"ChatBody", "CompletionBody"} <= document["components"]["schemas"].keys()


def test_the_front_page_says_what_this_is() -> None:
    response = call(app_for(FakeRuntime()), "GET", "/")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text.startswith("Camelid serves tiny here.\n")
    assert call(app_for(FakeRuntime()), "HEAD", "/").status_code == 200
