"""What Prometheus reads, and what the probes say of the engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fake_runtime import HEALTHY, FakeRuntime, hello
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from camelid.errors import InvalidRequest
from camelid.runtime.status import Health
from camelid.server.door import Door, ModelNames
from camelid.server.health import not_ready
from camelid.server.lifecycle import Lifecycle
from camelid.server.limits import Limits
from camelid.server.metrics import Metrics
from camelid.types import ChatRequest


def door_over(runtime: FakeRuntime) -> Door:
    lifecycle = Lifecycle()
    lifecycle.is_started = True
    return Door(runtime, ModelNames("tiny"), lifecycle, Metrics("1.2.3", runtime, lifecycle), Limits())


def samples(door: Door) -> dict[str, float]:
    """All samples by name and labels."""
    families = text_string_to_metric_families(door.metrics.page().decode())
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def take(door: Door, model: str = "tiny", at_most: int = 100) -> None:
    events = door.chat(Request({"type": "http", "headers": []}), ChatRequest(model, ()))
    async for _ in events:
        at_most -= 1
        if at_most == 0:
            break
    await events.aclose()


def test_answers_are_counted_with_their_tokens() -> None:
    door = door_over(FakeRuntime(script=hello()))
    asyncio.run(take(door))
    asyncio.run(take(door))
    read = samples(door)
    expected = {
        "prompt_tokens_total tiny": 14,
        "prompt_tokens_cached_total tiny": 8,
        "generation_tokens_total tiny": 6,
        "request_outcome_total tiny success": 2,
        "request_success_total stop tiny": 2,
        "time_to_first_token_seconds_count tiny": 2,
        "inter_token_latency_seconds_count tiny": 2,
        "e2e_request_latency_seconds_count tiny": 2,
    }
    assert {name: read.get(f"camelid_{name}") for name in expected} == expected


def test_requests_that_end_otherwise_are_counted_by_how() -> None:
    door = door_over(FakeRuntime(script=[*hello()[:2], InvalidRequest("no")]))
    with pytest.raises(InvalidRequest):
        asyncio.run(take(door))
    asyncio.run(take(door, at_most=1))
    read = samples(door)
    assert read["camelid_request_outcome_total tiny InvalidRequest"] == 1
    assert read["camelid_request_outcome_total tiny cancelled"] == 1


def test_names_that_clients_make_up_share_one_label() -> None:
    door = door_over(FakeRuntime())
    for number in range(5):
        with pytest.raises(Exception, match="there is no model"):
            asyncio.run(take(door, f"made-up-{number}"))
    assert {name for name in samples(door) if "made-up" in name} == set()
    assert samples(door)["camelid_request_outcome_total other NotFound"] == 5


def test_levels_are_read_when_they_are_asked_for() -> None:
    runtime = FakeRuntime(current_health=replace(HEALTHY, num_restarts=3))
    runtime.num_open = 2
    read = samples(door_over(runtime))
    expected = {
        "num_requests_running": 2,
        "kv_cache_usage_perc": 0.25,
        "engine_steps_total": 5,
        "engine_restarts_total": 3,
        "num_requests_in_flight": 0,
        "is_draining": 0,
        "is_alive": 1,
        "build_info 1.2.3": 1,
    }
    assert {name: read.get(f"camelid_{name}") for name in expected} == expected


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (HEALTHY, None),
        (replace(HEALTHY, is_fresh=False), "the engine gives no sign of life"),
        (replace(HEALTHY, is_overloaded=True), "too many requests are waiting"),
    ],
)
def test_the_server_is_ready_while_its_engine_is_well(health: Health, reason: str | None) -> None:
    assert not_ready(door_over(FakeRuntime(current_health=health))) == reason


def test_a_model_is_called_by_its_own_name_once_it_is_loaded() -> None:
    names = ModelNames("folder/tiny.gguf", {"gpt-4": "folder/tiny.gguf", "other": "thing"})
    names.settle("tiny")
    assert [names.resolve(name) for name in (None, "gpt-4", "other", "unknown")] == ["tiny", "tiny", "thing", "unknown"]
    assert names.of("tiny") == ["tiny", "gpt-4"]
