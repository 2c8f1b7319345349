"""What a container on SaladCloud tells the machine that it runs on, against a double of Salad's metadata service."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from camelid.errors import InvalidSetting, NotFound, OutOfMemory, Unavailable
from camelid.integrations.salad_metadata import (
    Metadata,
    Probes,
    keep_deletion_cost,
    leave_if_unfit,
    metadata_of,
    on_salad,
)


class Double(BaseHTTPRequestHandler):
    """The service as it is documented: it refuses what has no header of its own, and what a proxy has touched."""

    asked: list[tuple[str, str, Any]]
    cost = 0

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        if self.headers["Metadata"] != "true" or any(name.lower().startswith("x-forwarded") for name in self.headers):
            self._send(403, {"title": "Forbidden", "status": 403})
            return
        type(self).asked.append((self.command, self.path, body))
        match self.command, self.path:
            case "GET", "/v1/status":
                self._send(200, {"ready": True, "started": False})
            case "PUT", "/v1/deletion-cost":
                assert body is not None
                type(self).cost = body["deletion_cost"]
                self._send(204, None)
            case "GET", "/v1/deletion-cost":
                self._send(200, {"deletion_cost": self.cost})
            case "POST", "/v1/reallocate":
                self._send(204, None)
            case _:
                self._send(404, {"title": "Not Found", "status": 404})

    do_GET = do_PUT = do_POST = _answer  # noqa: N815

    def _send(self, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    Double.asked, Double.cost = [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Double)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Double.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_service_is_asked_past_every_proxy(
    asked: tuple[str, list[tuple[str, str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    metadata = metadata_of({"SALAD_METADATA_URI": asked[0]})
    assert metadata.probes() == Probes(ready=True, started=False)
    metadata.set_deletion_cost(2**40)
    assert metadata.deletion_cost() == 2**31 - 1
    metadata.close()


def test_a_machine_that_cannot_serve_is_left_and_an_operator_s_mistake_moves_nothing(
    asked: tuple[str, list[tuple[str, str, Any]]],
) -> None:
    metadata = Metadata(asked[0])
    assert leave_if_unfit(metadata, OutOfMemory("the model needs 9 GiB, and 6 are free" + "." * 2000))
    ((method, path, body),) = asked[1]
    assert (method, path, len(body["reason"])) == ("POST", "/v1/reallocate", 1000)
    for error in (InvalidSetting("port 0"), NotFound("no such model")):
        assert not leave_if_unfit(metadata, error)
    assert len(asked[1]) == 1
    metadata.close()
    gone = Metadata("http://127.0.0.1:1")
    assert not leave_if_unfit(gone, OutOfMemory("again"))  # and it is not an error of ours that nobody listens
    with pytest.raises(Unavailable, match="does not answer"):
        gone.probes()
    gone.close()


def test_the_busier_a_replica_is_the_later_it_goes(asked: tuple[str, list[tuple[str, str, Any]]]) -> None:
    running = iter([0, 3, 3, 1])
    metadata = Metadata(asked[0])

    def num_running() -> int:
        try:
            return next(running)
        except StopIteration:
            raise asyncio.CancelledError from None

    async def script() -> None:
        with pytest.raises(asyncio.CancelledError):
            await keep_deletion_cost(metadata, num_running, every_s=0.0)

    asyncio.run(script())
    assert [body["deletion_cost"] for _, _, body in asked[1]] == [0, 300, 100]  # said when it changes
    metadata.close()


def test_only_a_container_of_salad_s_tells_anything(asked: tuple[str, list[tuple[str, str, Any]]]) -> None:
    with on_salad({"SALAD_METADATA_URI": asked[0]}, lambda: 0) as also:
        assert also == []
    here = {"SALAD_MACHINE_ID": "m", "SALAD_CONTAINER_GROUP_ID": "g", "SALAD_METADATA_URI": asked[0]}

    def serve() -> None:
        with on_salad(here, lambda: 0) as also:
            assert len(also) == 1
            raise OutOfMemory("it does not fit")

    with pytest.raises(OutOfMemory):
        serve()
    assert [path for _, path, _ in asked[1]] == ["/v1/reallocate"]
