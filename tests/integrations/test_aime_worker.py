"""The worker against an API server with the real one's rules: whatever happens, every job has one result."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aime_server import CLIENT_KEY, KEY, AimeServer, served

from camelid.errors import Unauthorized, Unavailable
from camelid.integrations.aime.connection import Connection
from camelid.integrations.aime.session import Session
from camelid.integrations.aime.unfinished import Unfinished
from camelid.integrations.aime.wire import About, Identity
from camelid.integrations.aime.worker import Served, Worker
from camelid.types import ChatRequest, CompletionRequest, Event, Finished, FinishReason, Started, Text, Usage

pytestmark = pytest.mark.asyncio

HI = [{"role": "user", "content": "Hi"}]


class Echoing:
    """Answers with the last words of the prompt, letter by letter; waits where a test tells it to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.num_running = self.most_running = 0
        self.asked: list[ChatRequest | CompletionRequest] = []

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        async for event in self._say(request, request.messages[-1].content):
            yield event

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        async for event in self._say(request, str(request.prompt)):
            yield event

    async def _say(self, request: ChatRequest | CompletionRequest, text: str) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            yield Started(11)
            for letter in text:
                yield Text(letter)
                await asyncio.sleep(0)
            if text == "break":
                raise Unavailable("the engine is gone")
            await self.go.wait()
            yield Finished(FinishReason.STOP, usage=Usage(11, len(text) + 1))
        finally:
            self.num_running -= 1


@asynccontextmanager
async def a_worker(
    url: str, folder: Path, runtime: Echoing, *, key: str = KEY, most: int = 2, drain_s: float = 5.0
) -> AsyncIterator[Worker]:
    about = About("tiny", "llama", "0.1B", "cpu", 0, most)
    connection = Connection(url)
    session = Session(connection, Identity("host#0", "llama3", key), about, first_wait_s=0.05)
    try:
        yield Worker(session, Served(runtime, "tiny", 128, most), Unfinished(folder), drain_s=drain_s)
    finally:
        await connection.close()


@asynccontextmanager
async def working(
    url: str, folder: Path, runtime: Echoing, *, most: int = 2, drain_s: float = 5.0
) -> AsyncIterator[None]:
    async with a_worker(url, folder, runtime, most=most, drain_s=drain_s) as worker:
        running = asyncio.create_task(worker.run())
        try:
            yield
            worker.leave()
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_jobs_are_answered_side_by_side_and_their_results_are_whole(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    runtime.go.clear()
    async with served(server) as url, working(url, tmp_path, runtime):
        first = await server.put(chat_context=HI)
        await until(lambda: runtime.num_running == 1)
        second = await server.put(text_context="Once")  # joins the one that runs
        await until(lambda: runtime.num_running == 2)
        third = await server.put(text="waits for room")
        runtime.go.set()
        results = [await server.result(job) for job in (first, second, third)]
    assert [one["text"] for one in results] == ["Hi", "Once", "waits for room"]
    assert results[0] == {
        "text": "Hi",
        "model_name": "tiny",
        "num_generated_tokens": 3,
        "prompt_length": 11,
        "max_seq_len": 128,
        "current_context_length": 14,
    }
    assert runtime.most_running == 2
    assert not list(tmp_path.glob("*.job"))


async def test_the_server_hears_of_a_job_at_once_so_that_none_lapses_that_waited_long(tmp_path: Path) -> None:
    server, runtime = AimeServer(inactivity_s=2.0), Echoing()
    runtime.go.clear()
    async with served(server) as url, working(url, tmp_path, runtime):
        job = await server.put(text="x", age_s=60.0)
        await until(lambda: server.jobs[job].heard is not None)
        assert server.state(job) == "processing"
        await until(lambda: server.jobs[job].progress["progress_data"] == {"text": "x", "num_generated_tokens": 1})
        runtime.go.set()
        assert (await server.result(job))["text"] == "x"
    first = server.told("/worker_job_progress")[0][0]
    assert (first["progress"], first["progress_data"]["text"]) == (0, "")


async def test_one_unknown_job_costs_the_others_no_progress(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    runtime.go.clear()
    async with served(server) as url, working(url, tmp_path, runtime):
        lost, kept = await server.put(text="lost"), await server.put(text="kept")
        await until(lambda: runtime.num_running == 2)
        del server.jobs[lost]
        server.jobs[kept].progress = {}
        runtime.go.set()
        assert (await server.result(kept))["text"] == "kept"


async def test_a_job_that_the_server_forgot_is_given_up_so_that_its_room_is_free(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    runtime.go.clear()
    async with served(server) as url, working(url, tmp_path, runtime, most=1):
        lost = await server.put(text="a long text, so that there is progress to be told" * 200)
        await until(lambda: runtime.num_running == 1)
        del server.jobs[lost]
        await until(lambda: runtime.num_running == 0)
        runtime.go.set()
        assert (await server.result(await server.put(text="next")))["text"] == "next"


async def test_a_server_that_restarts_gets_a_new_login_and_the_results(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    runtime.go.clear()
    async with served(server) as url, working(url, tmp_path, runtime):
        job = await server.put(text="x")
        await until(lambda: runtime.num_running == 1)
        server.workers.clear()
        runtime.go.set()
        assert (await server.result(job))["text"] == "x"
        server.is_down = True
        await until(lambda: not runtime.num_running)
        server.is_down = False
        assert (await server.result(await server.put(text="y")))["text"] == "y"
    assert len(server.told("/worker_login")) >= 2


async def test_a_failure_is_a_result_with_what_there_was(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    async with served(server) as url, working(url, tmp_path, runtime):
        broken = await server.result(await server.put(text="break"))
        senseless = await server.result(await server.put(chat_context=[{"role": "user"}]))
        fine = await server.result(await server.put(text="x"))
    assert (broken["text"], broken["error"]) == ("break", "the engine is gone")
    assert senseless["error"] == "chat_context[0] must have a role and a content"
    assert "error" not in fine


async def test_who_leaves_finishes_what_runs_and_tells_why_the_rest_was_cut(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    runtime.go.clear()
    async with served(server) as url:
        async with working(url, tmp_path, runtime, drain_s=0.2):
            cut = await server.put(text="cut")
            await until(lambda: server.jobs[cut].progress.get("progress") == 3)
        result = await server.result(cut)
    assert (result["text"], result["error"]) == ("cut", "the worker is shutting down")


async def test_a_canceled_job_ends_and_changed_inputs_count(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    runtime.go.clear()
    async with served(server) as url, working(url, tmp_path, runtime, most=1):
        job = await server.put(text="abc" * 1000, max_gen_tokens=9000)
        server.change[job] = {"temperature": 0.25}
        await until(lambda: len(runtime.asked) == 2)
        assert runtime.asked[1].generation.sampling.temperature == 0.25
        server.cancel.add(job)
        assert (await server.result(job))["error"] == "canceled"


async def test_a_killed_worker_s_jobs_are_answered_by_the_next_one(tmp_path: Path) -> None:
    server, runtime = AimeServer(), Echoing()
    runtime.go.clear()
    async with served(server) as url:
        job = await server.put(text="survives")
        async with a_worker(url, tmp_path, runtime) as killed:
            running = asyncio.create_task(killed.run())
            await until(lambda: runtime.num_running == 1)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        runtime.go.set()
        async with working(url, tmp_path, runtime):
            assert (await server.result(job))["text"] == "survives"
    first, second = runtime.asked
    assert first == second  # the seed is kept, too, so the text is the same


async def test_a_key_that_is_not_accepted_is_an_error_at_the_start(tmp_path: Path) -> None:
    async with served(AimeServer()) as url, a_worker(url, tmp_path, Echoing(), key="wrong") as worker:
        with pytest.raises(Unauthorized, match="not authorized"):
            await worker.run()


async def test_keys_are_never_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = AimeServer()
    with caplog.at_level(logging.DEBUG):
        async with served(server) as url, working(url, tmp_path, Echoing()):
            await server.result(await server.put(text="x"))
            server.workers.clear()
            await server.result(await server.put(text="y"))
    assert "is answered" in caplog.text
    assert KEY not in caplog.text
    assert CLIENT_KEY not in caplog.text


async def test_the_command_answers_with_a_model_and_leaves_when_it_is_told_to(tmp_path: Path) -> None:
    server = AimeServer(inactivity_s=300.0)  # a busy machine takes its time to load a model
    async with served(server) as url:
        command = [sys.executable, "-m", "camelid", "worker", "aime", "cria", "--api-server", url, "--worker-key", KEY]
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
        job = await server.put(chat_context=HI, max_gen_tokens=5, temperature=0)
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
        result = await server.result(job)
        process.send_signal(signal.SIGTERM)
        _, log = await process.communicate()
    assert (process.returncode, result["model_name"], "error" in result) == (0, "cria", False)
    assert 1 <= result["num_generated_tokens"] <= 5
    assert KEY.encode() not in log
