"""`async_predict`: what is taken is answered, at least once, whatever ends in between; notices go nowhere inside."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_runtime import FakeRuntime

from camelid.errors import InvalidRequest, InvalidSetting, Overloaded, Unavailable
from camelid.server.app import create_app
from camelid.server.jobs import worker as working
from camelid.server.jobs.queue import Bounds, Delivery, Job, JobQueue, Status
from camelid.server.jobs.webhook import check_url, deliver, signature
from camelid.server.jobs.worker import JobWorker, Notices
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ServerSettings

SAID = {"messages": [{"role": "user", "content": "hi"}]}


def job(name: str, **given: Any) -> Job:
    usual = Job(name, "", b"{}", None, 0, 0.0, 1e12, max_attempts=3, delay_s=1.0, max_delay_s=5.0)
    return replace(usual, **given)


@dataclass
class Receiver:
    """Somebody's webhook: it keeps what it is sent, and answers with the next of `statuses`, then with 200."""

    statuses: list[int] = field(default_factory=list)
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        self.got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses.pop(0) if self.statuses else 200
        writer.write(f"HTTP/1.1 {status} X\r\nlocation: http://localhost/\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver([*statuses])
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver


@asynccontextmanager
async def served(
    path: Path | None, runtime: FakeRuntime | None = None, *, works: bool = True, **settings: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    lifecycle = Lifecycle()
    lifecycle.is_started = True
    given = ServerSettings(async_queue=None if path is None else str(path), webhook_hosts=("127.0.0.1",), **settings)
    app = create_app(runtime or FakeRuntime(), given, default_model="tiny", lifecycle=lifecycle)
    task = asyncio.ensure_future(app.state.jobs.run() if works else asyncio.sleep(0))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:11434") as client:
        yield client
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if app.state.jobs.queue is not None:
        app.state.jobs.queue.close()


async def until(client: httpx2.AsyncClient, name: str, status: str, key: str = "status") -> dict[str, Any]:
    while True:
        found: dict[str, Any] = (await client.get(f"/async_request/{name}")).json()
        if found[key] == status:
            return found
        await asyncio.sleep(0.01)


async def ask(client: httpx2.AsyncClient, **body: Any) -> str:
    answer = await client.post("/production/async_predict", json={"model_input": SAID, **body})
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["request_id"]
    return name


def test_the_answer_goes_to_the_webhook_signed_with_every_key(tmp_path: Path) -> None:
    async def script() -> None:
        keys = {"webhook_key": ("new", "old")}
        async with receiving() as receiver, served(tmp_path / "q", **keys) as client:
            name = await ask(client, webhook_endpoint=receiver.url)
            told = await until(client, name, "SUCCEEDED", "webhook_status")
            assert (told["status"], told["errors"], "data" in told) == ("SUCCEEDED", [], False)
            ((headers, body),) = receiver.got
        notice = json.loads(body)
        assert (notice["request_id"], notice["type"]) == (name, "async_request_completed")
        assert (notice["data"]["output"], notice["errors"]) == ("Hello", [])
        signs = [f"v1={hmac.new(key, body, hashlib.sha256).hexdigest()}" for key in (b"new", b"old")]
        assert headers["x-baseten-signature"] == ",".join(signs)

    asyncio.run(script())


def test_a_webhook_that_is_down_is_tried_again_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "LOOK_S", 0.005)

    async def deliveries(*statuses: int) -> tuple[int, str, str]:
        path = tmp_path / str(len(statuses))
        queue, lifecycle = JobQueue(path), Lifecycle()
        lifecycle.is_started = True

        async def answer(data: bytes) -> bytes:
            return b'{"output": 1}'

        async with receiving(*statuses) as receiver:
            queue.add(job("a", webhook=receiver.url, delivery=Delivery.PENDING))
            worker = JobWorker(queue, answer, lifecycle, Notices(hosts=("127.0.0.1",)), pauses_s=(0.01, 0.01))
            task = asyncio.ensure_future(worker.run())
            while (found := queue.find("a", "")) is None or found.delivery is Delivery.PENDING:
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        queue.close()
        return len(receiver.got), found.delivery, found.status

    assert asyncio.run(deliveries(500, 302)) == (3, "SUCCEEDED", "SUCCEEDED")  # and 302 is followed nowhere
    assert asyncio.run(deliveries(503, 503, 503, 503)) == (3, "FAILED", "WEBHOOK_FAILED")


def test_an_address_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    async def script() -> None:
        async with receiving() as receiver, served(tmp_path / "q") as client:
            kept: list[asyncio.StreamWriter] = []
            silent = await asyncio.start_server(lambda reader, writer: kept.append(writer), "127.0.0.1", 0)
            async with silent:
                url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
                first = await ask(client, webhook_endpoint=url)
                await until(client, first, "SUCCEEDED")
                second = await ask(client, webhook_endpoint=receiver.url)
                await until(client, second, "SUCCEEDED", "webhook_status")
                told = (await client.get(f"/async_request/{first}")).json()
                assert told["webhook_status"] == "PENDING"
                for writer in kept:
                    writer.close()
                    await writer.wait_closed()

    asyncio.run(script())


def test_without_a_webhook_the_answer_can_be_asked_for_by_its_owner(tmp_path: Path) -> None:
    async def script() -> None:
        async with served(tmp_path / "q", api_key=("mine", "theirs")) as client:
            client.headers["authorization"] = "Api-Key mine"
            name = await ask(client)
            told = await until(client, name, "SUCCEEDED")
            assert told["data"]["output"] == "Hello"
            assert told["webhook_status"] == "NO_WEBHOOK_PROVIDED"
            client.headers["authorization"] = "Api-Key theirs"
            assert (await client.get(f"/async_request/{name}")).status_code == 404
            assert (await client.delete(f"/async_request/{name}")).status_code == 404

    asyncio.run(script())


def test_only_what_waits_can_be_canceled(tmp_path: Path) -> None:
    async def script() -> None:
        async with served(tmp_path / "q", works=False) as client:
            name = await ask(client)
            assert (await client.delete(f"/async_request/{name}")).json()["canceled"] is True
            assert (await client.delete(f"/async_request/{name}")).json()["canceled"] is False
            assert (await client.get(f"/async_request/{name}")).json()["status"] == "CANCELED"
            assert (await client.get("/async_request/unknown")).status_code == 404

    asyncio.run(script())


def test_what_fails_for_the_server_s_sake_is_tried_again_and_nothing_else(tmp_path: Path) -> None:
    async def outcome(error: BaseException, attempts: int) -> tuple[int, dict[str, Any]]:
        runtime = FakeRuntime([error])
        async with served(tmp_path / type(error).__name__, runtime) as client:
            name = await ask(client, inference_retry_config={"max_attempts": attempts, "initial_delay_ms": 1})
            told = await until(client, name, "FAILED")
            return len(runtime.asked), told

    async def script() -> None:
        num_asked, told = await outcome(Unavailable("the engine is gone"), 2)
        assert num_asked == 2
        assert told["errors"] == [{"code": "MODEL_UNAVAILABLE", "message": "the engine is gone"}]
        num_asked, told = await outcome(InvalidRequest("too long"), 3)
        assert num_asked == 1
        assert told["errors"] == [{"code": "MODEL_INVALID_INPUT", "message": "too long"}]

    asyncio.run(script())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "model_input is required"),
        ({"model_input": SAID, "priority": 3}, "priority must be 0–2, got 3"),
        ({"model_input": SAID, "max_time_in_queue_seconds": 9}, "must be 10–259200"),
        ({"model_input": {**SAID, "stream": True}}, "cannot be streamed"),
        ({"model_input": {**SAID, "colour": "red"}}, "unknown field 'colour'"),
        ({"model_input": SAID, "webhook_endpoint": "http://example.com/x"}, "must begin with https://"),
        ({"model_input": {"prompt": "x" * 300_000}}, "at most 262144 bytes"),
    ],
)
def test_what_cannot_be_answered_is_refused_at_once(body: dict[str, Any], told: str, tmp_path: Path) -> None:
    async def script() -> None:
        async with served(tmp_path / "q", works=False) as client:
            answer = await client.post("/async_predict", json=body)
            assert answer.status_code == 400
            assert told in answer.json()["error"]

    asyncio.run(script())


def test_a_server_without_a_queue_says_how_to_get_one() -> None:
    async def script() -> None:
        async with served(None) as client:
            answer = await client.post("/async_predict", json={"model_input": SAID})
            assert (answer.status_code, answer.headers["x-baseten-error-code"]) == (404, "700")
            assert "--async-queue" in answer.json()["error"]

    asyncio.run(script())


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fd00::1]/",
        "https://user:password@example.com/",
        "https://",
        "ftp://example.com/",
        "https://exa mple.com/",
        "https://example.com:0/",
    ],
)
def test_addresses_inside_are_no_webhooks(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url, ())


def test_a_name_that_leads_inside_is_not_connected_to() -> None:
    with pytest.raises(Exception, match="localhost is not"):
        asyncio.run(deliver("https://localhost:1/", b"{}", (), ()))
    check_url("https://example.com/hook", ())
    check_url("http://localhost:9000/hook", ("localhost:9000",))
    assert signature(b"", ()) == ""


def test_lower_priorities_come_first_and_then_the_oldest(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "q")
    for name, priority, at in (("c", 1, 1.0), ("b", 0, 3.0), ("a", 0, 2.0)):
        queue.add(job(name, priority=priority, created_at=at))
    assert [one.id for one in iter(queue.take, None)] == ["a", "b", "c"]
    queue.close()


def test_a_job_that_waited_too_long_is_not_begun(tmp_path: Path) -> None:
    now = [1000.0]
    queue = JobQueue(tmp_path / "q", clock=lambda: now[0])
    queue.add(job("a", expires_at=1010.0, webhook="https://x", delivery=Delivery.PENDING, status_at=1000.0))
    now[0] = 1010.0
    assert queue.take() is None
    found = queue.find("a", "")
    assert found is not None
    assert (found.status, found.delivery, found.input) == (Status.EXPIRED, Delivery.CANCELED, b"")
    now[0] = 1010.0 + 3601
    assert queue.take() is None
    assert queue.find("a", "") is None  # forgotten, so that the file does not grow
    queue.close()


def test_kill_9_in_the_middle_of_a_job_loses_nothing(tmp_path: Path) -> None:
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from camelid.server.jobs.queue import JobQueue
from test_jobs import job
queue = JobQueue(Path(sys.argv[1]))
for name in "abc": queue.add(job(name, max_attempts=2))
queue.take(); queue.take()
queue.finish(queue.find("b", ""), b'{"output": 2}')
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "q"
    killed = subprocess.run([sys.executable, "-c", script, str(path), str(Path(__file__).parent)], check=False)
    assert killed.returncode == -9
    queue = JobQueue(path)
    assert [one.status for name in "abc" if (one := queue.find(name, ""))] == ["QUEUED", "SUCCEEDED", "QUEUED"]
    assert [one.id for one in iter(queue.take, None)] == ["a", "c"]
    queue.close()
    again = JobQueue(path)  # and one that ends its process every time is not begun for ever
    found = again.find("a", "")
    assert found is not None
    assert (found.status, found.errors[0]["code"]) == (Status.FAILED, "INTERNAL_SERVER_ERROR")
    again.close()


def test_a_full_queue_and_a_full_disk_take_no_job_and_keep_the_others(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "few", Bounds(jobs=1))
    queue.add(job("a"))
    with pytest.raises(Overloaded, match="holds 1 jobs"):
        queue.add(job("b"))
    queue.close()
    small = JobQueue(tmp_path / "small", Bounds(file_bytes=64 * 1024))
    small.add(job("a"))
    with pytest.raises(Overloaded, match="full"):
        small.add(job("b", input=b"x" * 200_000))
    assert small.find("b", "") is None
    taken = small.take()
    assert taken is not None
    assert taken.id == "a"
    small.close()


def test_a_queue_has_one_server(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "q")
    with pytest.raises(InvalidSetting, match="another server uses it"):
        JobQueue(tmp_path / "q")
    queue.close()
    (tmp_path / "text").write_text("no database at all, but some text")
    with pytest.raises(InvalidSetting, match="cannot be opened"):
        JobQueue(tmp_path / "text")


def test_a_plain_post_of_bytes_gets_the_whole_answer_as_salad_s_job_queue_wants_it() -> None:
    async def script() -> None:
        async with served(None) as client:  # its helper posts what is in the queue, and takes 200 for done
            done = await client.post("/predict", content=json.dumps(SAID).encode())
            assert (done.status_code, done.json()["output"]) == (200, "Hello")
            assert (await client.post("/predict", content=b"{}")).status_code == 400

    asyncio.run(script())
