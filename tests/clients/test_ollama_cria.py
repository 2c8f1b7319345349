"""The official `ollama` client against `camelid serve cria`: chats, prompts, models, errors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import ollama
import pytest

from camelid.cli.main import run
from camelid.store.local import find
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import parse_name
from camelid.store.store import Store

HELLO = [{"role": "user", "content": "Hello!"}]
GREEDY = {"temperature": 0}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with cria under the name `mine`, with parameters of its own."""
    store, parameters, config = Store(tmp_path_factory.mktemp("models")), b'{"temperature": 0}', b"{}"
    weights = find("cria").weights
    layers = (
        Layer(f"{OLLAMA_LAYER}model", store.blobs.add_file(weights), weights.stat().st_size),
        Layer(f"{OLLAMA_LAYER}params", store.blobs.add(parameters), len(parameters)),
    )
    image = Layer("application/vnd.docker.container.image.v1+json", store.blobs.add(config), len(config))
    store.manifests.write(parse_name("mine"), write_manifest(DOCKER_MANIFEST, image, layers))
    return store


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--models", str(store.folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CAMELID_CONTEXT_LENGTH": "512"}
    command += ["--log-level", "warning"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            yield next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM would have it take requests for some seconds more


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    client = ollama.Client(host=url)
    yield client
    client._client.close()


def test_a_chat_is_answered_with_counts_and_durations(client: ollama.Client) -> None:
    answer = client.chat("cria", HELLO, options=GREEDY)
    assert (answer.model, answer.done, answer.done_reason, answer.message.role) == ("cria", True, "stop", "assistant")
    assert answer.message.content
    assert answer.eval_count > 1  # type: ignore[operator]
    for duration in (answer.total_duration, answer.load_duration, answer.prompt_eval_duration, answer.eval_duration):
        assert duration is not None
        assert duration >= 0
    assert answer.total_duration >= answer.eval_duration + answer.prompt_eval_duration  # type: ignore[operator]
    assert answer.prompt_eval_count > 5  # type: ignore[operator]


@pytest.mark.parametrize("options", [GREEDY, {"seed": 7}, {"seed": 7, "top_k": 3, "top_p": 0.5, "min_p": 0.1}])
def test_a_stream_says_what_the_whole_answer_says(client: ollama.Client, options: dict[str, Any]) -> None:
    whole = client.chat("cria", HELLO, options=options)
    parts = list(client.chat("cria", HELLO, options=options, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].message.content == ""
    assert parts[-1].eval_count == whole.eval_count


def test_options_of_transformers_count_beside_ollamas(client: ollama.Client) -> None:
    extended: Any = {"temperature": 0, "num_predict": 12, "num_beams": 4, "no_repeat_ngram_size": 2}
    first, again = (client.chat("cria", HELLO, options=extended).message.content for _ in range(2))
    assert first == again
    with pytest.raises(ollama.ResponseError, match="num_beams must be 1–16, got 17"):
        client.chat("cria", HELLO, options={**extended, "num_beams": 17})


def test_a_prompt_is_answered_like_a_chat_of_one_message(client: ollama.Client) -> None:
    generated = client.generate("cria", "Hello!", options=GREEDY)
    assert generated.response == client.chat("cria", HELLO, options=GREEDY).message.content
    with_system = client.generate("cria", "Hello!", system="You are cria.", options=GREEDY)
    messages = [{"role": "system", "content": "You are cria."}, *HELLO]
    assert with_system.response == client.chat("cria", messages, options=GREEDY).message.content


def test_a_raw_prompt_goes_without_the_template(client: ollama.Client) -> None:
    raw = client.generate("cria", "1, 2, 3", raw=True, options={**GREEDY, "num_predict": 4})
    templated = client.generate("cria", "1, 2, 3", options={"num_predict": 1})
    assert raw.prompt_eval_count < templated.prompt_eval_count  # type: ignore[operator]
    assert raw.done_reason in ("length", "stop")


def test_a_context_that_is_given_back_makes_a_conversation(client: ollama.Client) -> None:
    first = client.generate("cria", "Hello!", options=GREEDY)
    second = client.generate("cria", "What is 2 + 3?", context=first.context, options=GREEDY)
    said = [*HELLO, {"role": "assistant", "content": first.response}, {"role": "user", "content": "What is 2 + 3?"}]
    chatted = client.chat("cria", said, options=GREEDY)
    assert second.response == chatted.message.content
    assert second.prompt_eval_count == chatted.prompt_eval_count
    assert second.context is not None
    assert first.context is not None
    assert list(second.context)[: len(first.context)] == list(first.context)
    streamed = list(client.generate("cria", "Hello!", options=GREEDY, stream=True))
    assert [part.context for part in streamed[:-1]] == [None] * (len(streamed) - 1)
    assert streamed[-1].context == first.context
    assert client.generate("cria", "1, 2", raw=True, options={"num_predict": 1}).context is None


def test_an_answer_ends_at_num_predict_or_a_stop_string(client: ollama.Client) -> None:
    cut = client.chat("cria", HELLO, options={**GREEDY, "num_predict": 1})
    assert (cut.done_reason, cut.eval_count) == ("length", 1)
    whole = client.chat("cria", HELLO, options=GREEDY).message.content or ""
    stopped = client.chat("cria", HELLO, options={**GREEDY, "stop": [whole[2]]})
    assert stopped.message.content == whole[:2]
    assert stopped.done_reason == "stop"


def test_log_probabilities_come_with_their_tokens(url: str) -> None:
    body = {"model": "cria", "messages": HELLO, "stream": False, "logprobs": True, "top_logprobs": 2, "options": GREEDY}
    answer = post(url, "/api/chat", body)
    pieces = b"".join(bytes(score["bytes"]) for score in answer["logprobs"] if not score["token"].startswith("<|"))
    assert pieces.decode() == answer["message"]["content"]
    assert all(len(score["top_logprobs"]) == 2 and score["logprob"] <= 0 for score in answer["logprobs"])


def test_tools_and_their_results_may_be_in_the_history(client: ollama.Client) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages: list[Any] = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"temperature": 21}', "tool_name": "get_weather"},
    ]
    answer = client.chat("cria", messages, tools=[TOOL], options=GREEDY)
    assert answer.done_reason == "stop"


def test_models_are_listed_and_described(client: ollama.Client, store: Store) -> None:
    listed = {model.model: model for model in client.list().models}
    assert set(listed) >= {"cria", "mine:latest"}
    assert listed["mine:latest"].digest == store.entry(parse_name("mine")).manifest.digest.hex
    shown = client.show("mine")
    assert shown.details is not None
    assert (shown.details.format, shown.details.family) == ("gguf", "llama")
    assert "temperature" in (shown.parameters or "")
    assert (shown.modelfile or "").startswith("# Modelfile generated by")
    assert "completion" in (shown.capabilities or [])


def test_a_request_may_bring_the_template_that_makes_its_prompt(client: ollama.Client) -> None:
    turn = "<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>"
    answer = "<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>"
    asked = client.generate("cria", "Hello!", template=turn + answer, options=GREEDY)
    raw = "<|begin_of_text|>" + (turn + answer).replace("{{ .Prompt }}", "Hello!").partition("{{")[0]
    assert asked.response == client.generate("cria", raw, raw=True, options=GREEDY).response
    with pytest.raises(ollama.ResponseError, match="line 1: there is no function 'nope'"):
        client.generate("cria", "Hello!", template="{{ nope }}")


def test_a_stored_model_is_loaded_when_it_is_asked_for_and_unloaded_on_request(client: ollama.Client) -> None:
    answer = client.chat("mine", HELLO)
    greedy = client.chat("cria", HELLO, options=GREEDY)
    assert answer.message.content == greedy.message.content  # its makers' temperature counts
    assert {model.model for model in client.ps().models} == {"cria", "mine:latest"}
    assert client.generate("mine", "", keep_alive=0).done_reason == "unload"
    assert {model.model for model in client.ps().models} == {"cria"}
    assert client.generate("cria", "").done_reason == "load"


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [("10m", 600), (90, 90), ("1h30m", 5400), (None, 300), (-1, 1e9), ("-1m", 1e9)]
)
def test_a_model_stays_as_long_as_its_last_request_asked(
    client: ollama.Client, keep_alive: float | str | None, seconds: float
) -> None:
    client.chat("mine", HELLO, keep_alive=keep_alive, options={"num_predict": 1})
    (left_s,) = (
        (model.expires_at - datetime.now(UTC)).total_seconds()  # type: ignore[operator]
        for model in client.ps().models
        if model.model == "mine:latest"
    )
    assert left_s > seconds - 60
    assert left_s <= seconds or seconds == 1e9


def test_a_model_that_is_told_to_leave_at_once_leaves_behind_its_answer(client: ollama.Client) -> None:
    assert client.chat("mine", HELLO, keep_alive=0).done
    while "mine:latest" in {model.model for model in client.ps().models}:
        pass


def test_openais_clients_load_models_of_the_store_too(url: str, client: ollama.Client) -> None:
    body = {"model": "mine", "messages": HELLO, "max_tokens": 2}
    assert post(url, "/v1/chat/completions", body)["usage"]["completion_tokens"] == 2
    assert "mine:latest" in {model.model for model in client.ps().models}


def test_the_command_shows_and_stops_what_is_loaded(
    url: str, client: ollama.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    port = url.rpartition(":")[2]
    client.generate("mine", "", keep_alive="1h")
    assert run(["ps", "--port", port]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    shown = {row.split()[0]: row for row in rows}
    assert shown["cria"].endswith("Forever")
    assert shown["mine:latest"].endswith(" 59 minutes from now")
    assert run(["stop", "mine", "--port", port]) == 0
    assert {model.model for model in client.ps().models} == {"cria"}
    assert run(["stop", "nope", "--port", port]) == 1
    assert 'couldn\'t find model "nope" to stop' in capsys.readouterr().err


def test_a_model_is_copied_and_deleted(client: ollama.Client) -> None:
    client.copy("mine", "someone/copy:2")
    (listed,) = (model for model in client.list().models if model.model == "someone/copy:2")
    assert listed.details is not None
    assert (listed.details.family, listed.details.quantization_level) == ("llama", "Q8_0")
    client.delete("someone/copy:2")
    assert "someone/copy:2" not in {model.model for model in client.list().models}


REFUSALS: dict[str, tuple[int, str, Callable[[ollama.Client], object]]] = {
    "unknown model": (404, "model 'nope' not found", lambda c: c.chat("nope", HELLO)),
    "unknown model, generate": (404, "model 'nope' not found", lambda c: c.generate("nope", "x")),
    "unknown model, show": (404, "model 'nope' not found", lambda c: c.show("nope")),
    "no name": (400, "invalid model name", lambda c: c.chat("a b", HELLO)),
    "a path": (400, "invalid model name", lambda c: c.chat("/etc/passwd", HELLO)),
    "a path upwards": (400, "invalid model name", lambda c: c.show("../../x/y/z")),
    "option of another type": (400, "must be of type integer", lambda c: c.chat("cria", HELLO, options={"top_k": "x"})),
    "option out of range": (400, "top_p must be", lambda c: c.chat("cria", HELLO, options={"top_p": 7.0})),
    "images": (400, "images is not supported", lambda c: c.generate("cria", "x", images=[b"\x89PNG"])),
    "a context of no ids": (400, "context[1] must be 0–", lambda c: c.generate("cria", "x", context=[1, 10**6])),
    "a context, raw": (400, "raw mode does not", lambda c: c.generate("cria", "x", context=[1], raw=True)),
    "suffix": (400, "was not trained to fill in", lambda c: c.generate("cria", "x", suffix="y")),
    "thinking": (400, "does not support thinking", lambda c: c.chat("cria", HELLO, think=True)),
    "a keyword": (400, 'format: Unimplemented keys: ["not"]', lambda c: c.chat("cria", HELLO, format={"not": {}})),
    "a prompt too long": (400, "and the context holds", lambda c: c.generate("cria", "word " * 3000)),
    "delete": (404, "there is no model nope", lambda c: c.delete("nope")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_in_ollamas_envelope(client: ollama.Client, case: str) -> None:
    status, text, ask = REFUSALS[case]
    with pytest.raises(ollama.ResponseError) as caught:
        ask(client)
    assert caught.value.status_code == status
    assert text in caught.value.error


def test_a_pull_that_fails_says_so_in_its_stream(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="cannot be reached"):
        list(client.pull("localhost:1/ns/m", stream=True))


def test_ollamas_own_examples_need_no_content_type_but_other_pages_stay_out(url: str) -> None:
    body = {"model": "cria", "prompt": "Hello!", "stream": False, "options": GREEDY}
    answer = post(url, "/api/generate", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert answer["done"] is True
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(url, "/api/generate", body, {"Content-Type": "text/plain", "Origin": "http://evil.example"})
    assert caught.value.code == 403
    assert set(json.loads(caught.value.read())) == {"error"}


def post(url: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    sent = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), sent)
    with urllib.request.urlopen(request) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


OLD_CLIENT = os.environ.get("CAMELID_TEST_OLLAMA_033")  # a folder with ollama 0.3.3, which some programs still pin
OLD_SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import ollama
client = ollama.Client(host=sys.argv[2])
hello = [{"role": "user", "content": "Hello!"}]
whole = client.chat("cria", hello, options={"temperature": 0})
parts = [part["message"]["content"] for part in client.chat("cria", hello, options={"temperature": 0}, stream=True)]
generated = client.generate("cria", "Hello!", options={"temperature": 0})
names = [model["name"] for model in client.list()["models"]]
try:
    client.chat("nope", hello)
except ollama.ResponseError as error:
    refused = [error.status_code, error.error]
print(json.dumps([whole["message"]["content"], "".join(parts), generated["response"], names, refused,
                  client.show("mine")["details"]["family"], len(client.ps()["models"])]))
"""


@pytest.mark.skipif(OLD_CLIENT is None, reason="CAMELID_TEST_OLLAMA_033 names no folder with ollama 0.3.3")
def test_an_old_client_works_as_well(url: str) -> None:
    command = [sys.executable, "-c", OLD_SCRIPT, OLD_CLIENT or "", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, streamed, generated, names, refused, family, num_loaded = json.loads(done.stdout)
    assert whole == streamed == generated != ""
    assert set(names) >= {"cria", "mine:latest"}
    assert refused == [404, "model 'nope' not found"]
    assert (family, num_loaded) == ("llama", 1)
