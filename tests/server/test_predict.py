"""The route `predict` as the README of the Llama 3 Truss promises it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest
from fake_runtime import FakeRuntime, model_status
from fastapi import FastAPI

from camelid.errors import InvalidRequest, Overloaded, RequestsFailed
from camelid.rules import Beams
from camelid.server.app import create_app
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ServerSettings
from camelid.types import ChatRequest, Finished, FinishReason, Message, Sampling, Started, Stopping, Text, Usage

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
PLAIN = ServerSettings()
KEYED = ServerSettings(api_key=("secret",))
BINARY = {"content-type": "application/octet-stream"}
PATHS = (
    *("/predict", "/v1/predict", "/invocations", "/production/predict", "/development/predict"),
    *("/environments/blue/predict", "/deployment/abc/predict", "/model_versions/abc/predict"),
    *("/v1/models/model:predict", "/v1/models/tiny:predict", "/v1/models/org/x:8b:predict_binary"),
)


def app_for(runtime: FakeRuntime, settings: ServerSettings = PLAIN) -> FastAPI:
    lifecycle = Lifecycle()
    lifecycle.is_started = True
    settings = replace(settings, alias=(("org/x:8b", "tiny"),))
    return create_app(runtime, settings, default_model="tiny", lifecycle=lifecycle)


def post(app: FastAPI, path: str = "/predict", body: Any = HI, **headers: str) -> httpx2.Response:
    async def once() -> httpx2.Response:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:11434") as client:
            data = body if isinstance(body, bytes) else json.dumps(body)
            return await client.request("POST", path, content=data, headers={"accept": "*/*", **headers})

    return asyncio.run(once())


def asked(**fields: Any) -> ChatRequest:
    runtime = FakeRuntime()
    response = post(app_for(runtime), body={**HI, "seed": 5, **fields})
    assert response.status_code == 200, response.text
    [ask] = runtime.asked
    assert isinstance(ask, ChatRequest)
    return ask


def refused(**fields: Any) -> str:
    response = post(app_for(FakeRuntime()), body={**HI, **fields})
    assert response.status_code == 400
    headers = {name: value for name, value in response.headers.items() if name.startswith("x-baseten")}
    assert headers == {"x-baseten-error-source": "04", "x-baseten-error-code": "700"}
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


@pytest.mark.parametrize("path", PATHS)
def test_every_path_of_the_gateway_and_the_server_answers(path: str) -> None:
    runtime = FakeRuntime()
    assert post(app_for(runtime), path).json()["output"] == "Hello"
    assert runtime.asked[0].model == "tiny"


def test_the_defaults_are_the_readmes() -> None:
    generation = asked().generation
    assert generation.beams == Beams(4)
    assert generation.stopping == Stopping(max_length=512)
    one = asked(num_beams=1).generation
    assert one.beams is None
    assert one.sampling == Sampling(temperature=0.1, top_p=0.75, top_k=40, seed=5)
    assert asked(guidance_scale=1.5).generation.beams is None
    drawn = asked(do_sample=True, num_beams=4).generation
    assert drawn.beams == Beams(4, samples=True)
    assert drawn.sampling == one.sampling


def test_max_tokens_count_the_prompt_and_end_at_4096() -> None:
    assert asked(max_tokens=128).generation.stopping == Stopping(max_length=128)
    assert asked(max_tokens=10_000).generation.stopping == Stopping(max_length=4096)
    assert asked(max_new_tokens=9).generation.stopping == Stopping(max_tokens=9)
    assert "max_tokens cannot be combined" in refused(max_tokens=9, max_new_tokens=9)
    assert "max_tokens must be at least 1, got 0" in refused(max_tokens=0)


def test_a_prompt_that_is_too_long_is_told_by_the_name_that_was_given() -> None:
    error = InvalidRequest("max_length counts the prompt, which has 600 tokens", field="max_length")
    said = post(app_for(FakeRuntime([error]))).json()["error"]
    assert said.startswith("max_tokens counts the prompt, which has 600 tokens")
    kept = post(app_for(FakeRuntime([error])), body={**HI, "max_length": 9}).json()["error"]
    assert kept == "max_length counts the prompt, which has 600 tokens"


def test_a_prompt_is_a_conversation_of_one_message() -> None:
    assert asked(messages=None, prompt="hi").messages == (Message("user", "hi"),)
    assert "messages are required, or a prompt in their place" in refused(messages=None)
    assert "messages are required, or a prompt in their place" in refused(prompt="hi")


def test_a_stream_is_text_and_has_one_beam_unless_more_are_asked_for() -> None:
    runtime = FakeRuntime()
    response = post(app_for(runtime), body={**HI, "stream": True})
    assert (response.content, response.headers["content-type"]) == (b"Hello", "application/octet-stream")
    assert "content-length" not in response.headers
    assert runtime.asked[0].generation.beams is None
    assert "num_beams must be 1 in a stream, got 2" in refused(stream=True, num_beams=2)
    assert "num_return_sequences must be 1 in a stream" in refused(stream=True, num_return_sequences=2)
    gathered = post(app_for(runtime), body={**HI, "stream": True}, accept="application/json")
    assert (gathered.json(), gathered.headers["content-type"]) == ("Hello", "application/json")


def test_an_answer_says_how_it_ended_and_what_it_cost() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    script = [Started(7), Text("Hel"), Text("lo"), Finished(FinishReason.LENGTH, 0, Usage(7, 3), score=-0.5)]
    expected = {"output": "Hello", "finish_reason": "length", "usage": usage, "sequences_scores": [-0.5]}
    assert post(app_for(FakeRuntime(script)), body={**HI, "num_beams": 2}).json() == expected
    stopped = [Started(7), Text("Hel"), Finished(FinishReason.STOP, 0, Usage(7, 3), stop="END")]
    one = post(app_for(FakeRuntime(stopped)), body={**HI, "num_beams": 1, "stop_strings": "END"})
    assert one.json() == {"output": "HelEND", "finish_reason": "stop", "usage": usage}


def test_several_sequences_come_as_a_list() -> None:
    answer = post(app_for(FakeRuntime()), body={**HI, "num_beams": 4, "num_return_sequences": 2}).json()
    assert (answer["output"], answer["finish_reason"]) == (["Hello", "Hello"], ["stop", "stop"])


def test_msgpack_comes_back_as_msgpack_and_numpys_numbers_are_numbers() -> None:
    runtime = FakeRuntime()
    ids = np.array([[5, 6]])
    packed_ids = {b"nd": True, b"type": ids.dtype.str, b"kind": b"", b"shape": [1, 2], b"data": ids.tobytes()}
    half = np.float64(0.5)
    packed_half = {b"nd": False, b"type": half.dtype.str, b"data": half.tobytes()}
    decimal = {b"__decimal__": True, b"data": "0.25"}
    body = {**HI, "num_beams": 1, "bad_words_ids": packed_ids, "temperature": packed_half, "top_p": decimal}
    response = post(app_for(runtime), "/v1/models/model:predict", msgspec.msgpack.encode(body), **BINARY)
    assert response.headers["content-type"] == "application/octet-stream"
    assert msgspec.msgpack.decode(response.content)["output"] == "Hello"
    generation = runtime.asked[0].generation
    assert generation.rules is not None
    assert generation.rules.bad_words_ids == ((5, 6),)
    assert (generation.sampling.temperature, generation.sampling.top_p) == (0.5, 0.25)


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        msgspec.msgpack.encode({**HI, "temperature": {b"nd": True, b"type": "|O", b"shape": [1], b"data": b"x"}}),
        msgspec.msgpack.encode({**HI, "temperature": {b"nd": True, b"type": "<f8", b"shape": [9], b"data": b"x"}}),
        msgspec.msgpack.encode({**HI, "temperature": {b"__decimal__": True, b"data": "Infinity"}}),
        msgspec.msgpack.encode({**HI, 5: 6}),
        b"\x91" * 100_000 + b"\xc0",
    ],
)
def test_msgpack_that_cannot_be_is_refused(body: bytes) -> None:
    assert post(app_for(FakeRuntime()), body=body, **BINARY).status_code == 400


def test_wrong_fields_are_named() -> None:
    assert refused(temprature=1) == "unknown field 'temprature'. Did you mean 'temperature'?"
    assert refused(num_beams="four") == "num_beams: expected a whole number, got a string"
    assert refused(messages=[{"role": "user"}]) == "messages[0].content is required"
    assert refused(watermarking_config={}) == "watermarking_config is not supported"
    assert refused(profile="other").startswith("profile: ")


def test_a_profile_may_be_asked_for() -> None:
    runtime = FakeRuntime()
    response = post(app_for(runtime), body={**HI, "profile": "as-built", "num_beams": 4, "stream": False})
    assert list(response.json()) == ["output"]
    assert response.headers["x-camelid-ignored"] == "num_beams"
    settings = ServerSettings(predict_profile="as-built")
    assert "usage" in post(app_for(FakeRuntime(), settings), body={**HI, "profile": "documented"}).json()
    assert runtime.asked[0].generation.sampling.temperature == 1.0
    assert runtime.asked[0].generation.stopping == Stopping(max_length=512)


def test_a_key_may_come_in_basetens_scheme() -> None:
    app = app_for(FakeRuntime(), KEYED)
    statuses = {"Api-Key secret": 200, "Bearer secret": 200, "Api-Key wrong": 401, "Basic secret": 401}
    assert {value: post(app, authorization=value).status_code for value in statuses} == statuses
    refusal = post(app, authorization="Api-Key wrong")
    assert refusal.headers["x-baseten-error-code"] == "700"


def test_faults_are_said_to_be_whose_they_are() -> None:
    for error, status, code in (
        (Overloaded("full", retry_after_s=2.0), 503, "600"),
        (RequestsFailed(("r",), "broken"), 500, "600"),
        (ZeroDivisionError("x"), 500, "500"),
    ):
        response = post(app_for(FakeRuntime([error])))
        assert (response.status_code, response.headers["x-baseten-error-code"]) == (status, code)


def test_a_model_that_is_not_here_is_not_found() -> None:
    runtime = FakeRuntime(models=[model_status()])
    assert post(app_for(runtime), "/v1/models/other:predict").status_code == 404
    as_built = ServerSettings(predict_profile="as-built")
    assert post(app_for(runtime, as_built), "/v1/models/other:predict").status_code == 200


def test_a_stream_that_breaks_is_not_ended() -> None:
    sent: list[dict[str, Any]] = []

    async def once() -> None:
        app = app_for(FakeRuntime([Started(7), Text("Hel"), RequestsFailed(("r",), "broken")]))
        body = json.dumps({**HI, "stream": True}).encode()
        messages = iter([{"type": "http.request", "body": body}])
        forever = asyncio.Event()

        async def receive() -> Any:
            message = next(messages, None)
            if message is None:
                await forever.wait()
            return message

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b""}
        await app({**scope, "headers": headers, "scheme": "http", "http_version": "1.1"}, receive, send)

    asyncio.run(once())
    assert [message.get("body", b"") for message in sent] == [b"", b"Hel"]
    assert all(message.get("more_body", True) for message in sent)
