"""What `ps` shows, and what `ps` and `stop` say when there is nobody to ask."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from camelid.cli.client import address
from camelid.cli.main import run
from camelid.cli.ps import processor, until
from camelid.settings import ServerSettings

NOW = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expires_at", "shown"),
    [
        ("2026-08-01T12:04:59.5Z", "4 minutes from now"),
        ("2026-08-01T12:01:00Z", "1 minute from now"),
        ("2026-08-01T12:00:03Z", "3 seconds from now"),
        ("2026-08-03T12:00:00Z", "2 days from now"),
        ("2026-08-01T12:00:00Z", "Stopping..."),
        ("2026-08-01T11:00:00Z", "Stopping..."),
        ("2318-01-01T00:00:00Z", "Forever"),
    ],
)
def test_times_are_told_in_their_largest_unit(expires_at: str, shown: str) -> None:
    assert until(expires_at, NOW) == shown


def test_a_model_lies_on_one_processor_or_on_both() -> None:
    assert [processor(100, on_gpu) for on_gpu in (0, 100, 52)] == ["100% CPU", "100% GPU", "48%/52% CPU/GPU"]


def test_a_server_that_listens_everywhere_is_asked_on_this_machine() -> None:
    hosts = ("0.0.0.0", "::", "192.0.2.7", "::1")
    found = [address(ServerSettings(host=host, port=1)) for host in hosts]
    assert found == ["http://127.0.0.1:1", "http://[::1]:1", "http://192.0.2.7:1", "http://[::1]:1"]


@pytest.mark.parametrize("arguments", [["ps"], ["stop", "cria"]])
def test_where_no_server_answers_it_is_said_how_to_start_one(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--port", "1"]) == 1
    assert capsys.readouterr().err.startswith("error: no server answers at http://127.0.0.1:1\n\nhint: start one")
