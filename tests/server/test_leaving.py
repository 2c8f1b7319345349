"""How a server comes and goes: the port first, the probes while it loads, and nothing lost when it is told to leave."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from fake_runtime import FakeRuntime, hello
from live import live

from camelid.errors import InvalidSetting, ModelError
from camelid.server.app import serve
from camelid.server.limits import Limits
from camelid.server.listen import listen, url_of
from camelid.settings import ServerSettings

SCRIPT = Path(__file__).with_name("serve_fake.py")
ASK = {"stream": True, "messages": [{"role": "user", "content": "count"}]}


@contextmanager
def process(script: str, drain: float, accept: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), script, str(drain), str(accept)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            yield server
        finally:
            server.kill()


def read_url(server: subprocess.Popen[str]) -> str:
    """The address in the first line of the banner."""
    assert server.stderr is not None
    found = re.search(r"listens on (http://127\.0\.0\.1:\d+)$", server.stderr.readline().rstrip())
    assert found
    return found[1]


def stream_and_signal(server: subprocess.Popen[str], *signals: int) -> list[str]:
    """Begin a stream, send signals after its first text, and return the data of all events."""
    url = read_url(server)
    events = []
    pending = list(signals)
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=ASK, timeout=30) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
                if pending and "content" in events[-1] and len(events) > 2:
                    server.send_signal(pending.pop(0))
    return events


def texts(events: list[str]) -> str:
    chunks = [json.loads(event) for event in events if event.startswith('{"id"')]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_answer_finish_and_the_server_leave_in_peace(number: int) -> None:
    with process("short", drain=30) as server:
        events = stream_and_signal(server, number)
        assert texts(events) == "".join(f"{word} " for word in range(50))
        assert events[-1] == "[DONE]"
        assert server.wait(20) == 0


def test_an_answer_that_outlasts_the_drain_time_ends_with_an_error_event() -> None:
    with process("endless", drain=0.3) as server:
        events = stream_and_signal(server, signal.SIGTERM)
        assert json.loads(events[-1])["error"]["code"] == "unavailable"
        assert server.wait(20) == 0


def test_a_second_signal_stops_now() -> None:
    with process("endless", drain=600) as server:
        events = stream_and_signal(server, signal.SIGTERM, signal.SIGTERM)
        assert json.loads(events[-1])["error"]["code"] == "unavailable"
        assert server.wait(20) == 128 + signal.SIGTERM


def test_a_signal_while_the_model_is_loaded_ends_the_server_in_peace() -> None:
    with process("loading", drain=600) as server:
        assert server.stderr is not None
        assert server.stderr.readline() == "loading\n"
        while server.poll() is None and not _obeys_signals(server.pid):
            pass
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


def _obeys_signals(pid: int) -> bool:
    """Whether the process has its handlers in place (Linux)."""
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    assert caught
    return bool(int(caught[1], 16) & (1 << (signal.SIGTERM - 1)))


def test_after_sigterm_the_server_is_not_ready_but_still_answers_for_a_while() -> None:
    async def scenario() -> None:
        done = asyncio.Event()
        runtime = FakeRuntime(script=[done, *hello()])
        settings = ServerSettings(port=0, drain_seconds=60)
        async with (
            live(runtime, settings, Limits(accept_after_term_s=60)) as server,
            httpx2.AsyncClient(base_url=server.url) as client,
        ):
            assert (await client.get("/readyz")).status_code == 200
            server.server.leave(signal.SIGTERM)
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["reason"]) == (503, "the server is shutting down")
            assert (await client.get("/livez")).status_code == 200
            done.set()
            assert (await client.post("/v1/chat/completions", json=ASK | {"stream": False})).status_code == 200

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_once_the_door_is_shut_requests_on_open_connections_are_refused() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime()) as server, httpx2.AsyncClient(base_url=server.url) as client:
            server.lifecycle.is_refusing = True
            response = await client.post("/v1/chat/completions", json=ASK)
            assert (response.status_code, response.headers["connection"]) == (503, "close")

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_probes_answer_while_the_model_is_loaded_and_requests_are_told_to_come_back() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime()) as server, httpx2.AsyncClient(base_url=server.url) as client:
            server.lifecycle.is_started = False
            statuses = [(await client.get(path)).status_code for path in ("/livez", "/startupz", "/readyz")]
            assert statuses == [200, 503, 503]
            assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 503

    asyncio.run(asyncio.wait_for(scenario(), 20))


# before and instead of serving


def test_a_port_in_use_is_told_before_the_model_is_loaded() -> None:
    runtime = FakeRuntime()
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSetting, match=f"port {port} on 127.0.0.1 is in use") as caught:
            serve(runtime, ServerSettings(port=port), "tiny")
    assert f"--port {port + 1}" in str(caught.value.hint)
    assert runtime.loads == []


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="cannot listen on"):
        listen("192.0.2.1", 0)
    with pytest.raises(InvalidSetting, match="has no address"):
        listen("no-such-name.invalid", 0)


def test_all_addresses_means_both_families() -> None:
    with listen("::", 0) as listener:
        assert url_of(listener).startswith("http://[::1]:")
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5):
            pass


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_error() -> None:
    runtime = FakeRuntime(load_error=ModelError("broken"))
    announced: list[str] = []
    with pytest.raises(ModelError, match="broken"):
        serve(runtime, ServerSettings(port=0), "tiny", announce=announced.append)
    assert (runtime.loads, runtime.is_closed, announced) == (["tiny"], True, [])


def test_the_banner_has_an_address_a_key_a_model_and_a_command_that_works() -> None:
    from camelid.server.banner import banner

    settings = ServerSettings(api_key=("k",))
    lines = banner("1.2.3", "http://127.0.0.1:1", settings, FakeRuntime().models).splitlines()
    assert lines == [
        "Camelid 1.2.3 listens on http://127.0.0.1:1",
        "  key    Authorization: Bearer KEY (1 key is known)",
        "  model  tiny: llama, 1 K parameters, 128 tokens of context, 1 MiB, fake",
        "  try    curl http://127.0.0.1:1/v1/chat/completions -H 'content-type: application/json' "
        '-H "authorization: Bearer $CAMELID_API_KEY" '
        """-d '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'""",
        "  stop   Ctrl-C",
    ]
