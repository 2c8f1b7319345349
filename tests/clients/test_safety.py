"""Requests that a safety model judges, through the real server and engines: cria answers, and guard watches it.

guard is a toy (`tools/guard`): it forbids animals, fruit, vehicles, music and llamas, and really decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from click.testing import CliRunner
from live import Live, live, openai_client

import camelid
from camelid.cli.run import command as run_command
from camelid.errors import InvalidSetting, NotFound
from camelid.runtime.runtime import Runtime
from camelid.settings import ModelSettings, SafetySettings, ServerSettings
from camelid.types import FinishReason

GUARD = Path(__file__).parents[1] / "models" / "guard.gguf"
POLICY = "S1: Animals.\nS2: Fruit.\nS3: Vehicles.\nS4: Music.\nS5: Llamas.\n"
SETTINGS = ModelSettings(threads=1, max_sequences=8, context_length=1024)
KEYS = ServerSettings(port=0, drain_seconds=0.0, api_key=("user",), admin_key=("boss",))
SAFE, ANIMAL = "What is 17 + 25?", "Repeat: tiger"
COPY = "Repeat: house table river stone apple garden window"
VIOLATED = {"S1": "Animals", "S2": "Fruit"}


@pytest.fixture
def policy(tmp_path: Path) -> SafetySettings:
    file = tmp_path / "policy.txt"
    file.write_text(POLICY)
    return SafetySettings(safety_model=str(GUARD), safety_policy=str(file))


@asynccontextmanager
async def served(safety: SafetySettings, *, settings: ModelSettings = SETTINGS) -> AsyncIterator[tuple[Live, Runtime]]:
    runtime = Runtime(settings, safety=safety, in_process=True)
    try:
        await runtime.load("cria")
        async with live(runtime, KEYS, model="cria") as server:
            yield server, runtime
    finally:
        await runtime.close()


def scenario(
    safety: SafetySettings, play: Callable[[Live, Runtime], Awaitable[Any]], settings: ModelSettings = SETTINGS
) -> Any:
    async def run() -> Any:
        async with served(safety, settings=settings) as (server, runtime):
            return await play(server, runtime)

    return asyncio.run(asyncio.wait_for(run(), 300))


def asked(content: str, **sends: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "cria", "messages": messages, "temperature": 0, "max_tokens": 40} | sends


async def chat(server: Live, content: str, **sends: Any) -> Any:
    async with openai_client(server.url, "user") as client:
        return await client.chat.completions.create(**asked(content, **sends))


async def streamed(server: Live, content: str) -> tuple[str, str | None, dict[str, Any] | None]:
    """Return the text that was shown, why it ended and what the last chunk says of safety."""
    text, reason, safety = "", None, None
    async with openai_client(server.url, "user") as client:
        async for chunk in await client.chat.completions.create(**asked(content, stream=True)):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
                safety = (choice.model_extra or {}).get("safety") or safety
    return text, reason, safety


def test_guard_decides_and_each_dialect_says_it_its_own_way(policy: SafetySettings) -> None:
    async def play(server: Live, runtime: Runtime) -> None:
        fine = (await chat(server, SAFE)).choices[0]
        assert (fine.finish_reason, fine.message.refusal) == ("stop", None)
        refused = (await chat(server, ANIMAL)).choices[0]
        assert (refused.finish_reason, refused.message.content) == ("content_filter", None)
        assert refused.message.refusal == "The request was judged unsafe: S1 Animals."
        assert refused.model_extra == {"safety": verdict("input", "S1")}
        assert await streamed(server, ANIMAL) == ("", "content_filter", verdict("input", "S1"))
        await others(server)
        await counted(server, runtime)

    scenario(policy, play)


def verdict(direction: str, *keys: str) -> dict[str, Any]:
    return {"direction": direction, "categories": [{"key": key, "name": VIOLATED[key]} for key in keys]}


async def others(server: Live) -> None:
    """Ask for an animal in all the other APIs."""
    async with openai_client(server.url, "user") as client:
        text = (await client.completions.create(model="cria", prompt=ANIMAL, n=2)).choices
        assert [(one.text, one.finish_reason, one.model_extra) for one in text] == [
            ("", "content_filter", {"safety": verdict("input", "S1")})
        ] * 2
        response = await client.responses.create(model="cria", input=ANIMAL)
        assert (response.status, response.output_text) == ("incomplete", "")
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "content_filter"
    plain = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="user", http_client=plain) as client:
        messages: Any = [{"role": "user", "content": ANIMAL}]
        message = await client.messages.create(model="cria", max_tokens=9, messages=messages)
        assert (message.stop_reason, message.stop_details and message.stop_details.explanation) == (
            "refusal",
            "The request was judged unsafe: S1 Animals.",
        )
    async with httpx2.AsyncClient(headers={"authorization": "Bearer user"}) as client:
        body = {"model": "cria", "messages": messages, "stream": False}
        said = (await client.post(f"{server.url}/api/chat", json=body)).json()
        assert (said["done_reason"], said["safety"]) == ("content_filter", verdict("input", "S1"))


async def counted(server: Live, runtime: Runtime) -> None:
    """See that the metrics say how often what was found."""
    judged = runtime.judgements()
    assert judged.outcomes == {("input", "safe"): 1, ("input", "unsafe"): 6, ("output", "safe"): 1}
    async with httpx2.AsyncClient(headers={"authorization": "Bearer user"}) as client:
        page = (await client.get(f"{server.url}/metrics")).text
    for line in (
        'camelid_safety_verdicts_total{direction="input",verdict="unsafe"} 6.0',
        'camelid_safety_violations_total{category="S1",direction="input"} 6.0',
        'camelid_request_success_total{finished_reason="content_filter",model_name="cria"} 7.0',
    ):
        assert line in page


def test_a_stream_is_cut_before_what_is_unsafe_and_only_an_admin_may_see_it(policy: SafetySettings) -> None:
    async def play(server: Live, runtime: Runtime) -> None:
        text, reason, safety = await streamed(server, COPY)
        assert (reason, safety) == ("content_filter", verdict("output", "S2"))
        assert text
        assert "apple" not in text
        assert COPY.startswith(f"Repeat: {text}")
        async with openai_client(server.url, "boss") as client:
            messages: Any = [{"role": "user", "content": COPY}]
            create = client.chat.completions.create
            off = {"camelid-safety": "off"}
            shown = await create(model="cria", messages=messages, temperature=0, extra_headers=off)
            assert "apple" in (shown.choices[0].message.content or "")
            held = await create(model="cria", messages=messages, temperature=0)
            assert held.choices[0].finish_reason == "content_filter"
        with pytest.raises(openai.PermissionDeniedError, match="admin key"):
            await chat(server, COPY, extra_headers=off)
        with pytest.raises(openai.BadRequestError, match="must be on or off"):
            await chat(server, COPY, extra_headers={"camelid-safety": "perhaps"})

    scenario(replace(policy, safety_checks="output", safety_hold_back=6), play)


def test_verdicts_alone_and_in_a_full_batch_are_the_same(policy: SafetySettings) -> None:
    told = [SAFE, ANIMAL, COPY, "Repeat: pear", "Say: lemon", "Sort: 4, 2, 9", "Hello!", "Who are you?", "Hi"]

    async def play(server: Live, runtime: Runtime) -> None:
        alone = [await streamed(server, content) for content in told]
        together = await asyncio.gather(*(streamed(server, content) for content in told))
        assert together == alone
        assert {reason for _, reason, _ in alone} == {"stop", "content_filter"}
        two = await chat(server, COPY, n=2)
        assert [choice.finish_reason for choice in two.choices] == ["content_filter"] * 2
        assert not any("apple" in (choice.message.content or "") for choice in two.choices)

    scenario(replace(policy, safety_checks="output", safety_hold_back=0), play)


def test_without_a_verdict_a_closed_check_fails_the_request_and_an_open_one_lets_it_pass(
    policy: SafetySettings,
) -> None:
    no_judge = replace(policy, safety_model="cria")  # which answers, but never with a verdict

    async def closed(server: Live, runtime: Runtime) -> None:
        with pytest.raises(openai.InternalServerError, match="could not be checked for safety") as error:
            await chat(server, SAFE)
        assert (error.value.status_code, error.value.code) == (503, "safety_check_failed")
        assert runtime.judgements().outcomes == {("input", "error"): 1}

    async def opened(server: Live, runtime: Runtime) -> None:
        assert (await chat(server, ANIMAL)).choices[0].finish_reason in ("stop", "length")
        assert runtime.judgements().outcomes["input", "error"] == 1

    scenario(no_judge, closed)
    scenario(replace(no_judge, safety_failure="open"), opened)


def test_a_judge_that_is_gone_fails_the_requests_that_need_it(policy: SafetySettings, tmp_path: Path) -> None:
    async def play(server: Live, runtime: Runtime) -> None:
        await runtime.unload("guard")
        assert (await chat(server, SAFE)).choices[0].finish_reason == "stop"  # it is loaded again
        await runtime.unload("guard")
        judge.rename(judge.with_suffix(".gone"))
        with pytest.raises(openai.InternalServerError, match="could not be checked for safety"):
            await chat(server, SAFE)

    judge = tmp_path / "guard.gguf"
    judge.write_bytes(GUARD.read_bytes())
    scenario(replace(policy, safety_model=str(judge)), play)
    with pytest.raises(NotFound, match="no-such-judge"):
        scenario(replace(policy, safety_model="no-such-judge"), play)


def test_a_model_may_have_checks_of_its_own_or_none(policy: SafetySettings) -> None:
    async def play(server: Live, runtime: Runtime) -> None:
        assert (await chat(server, ANIMAL)).choices[0].finish_reason == "stop"
        assert (await chat(server, "Repeat: pear")).choices[0].finish_reason == "content_filter"

    own = (("safety_categories", ("S2",)), ("safety_checks", "input"))
    scenario(replace(policy, safety=(("cria", own),)), play)
    with pytest.raises(InvalidSetting, match="'S9', which the policy has not"):
        Runtime(SETTINGS, safety=replace(policy, safety_categories=("S9",)))


def test_the_library_has_its_answers_judged(policy: SafetySettings) -> None:
    given: Any = {"safety_model": policy.safety_model, "safety_policy": policy.safety_policy}
    with camelid.load("cria", threads=1, context_length=512, **given) as model:
        refused = model.chat(ANIMAL, temperature=0)
        assert (refused.text, refused.finish_reason) == ("", FinishReason.CONTENT_FILTER)
        assert refused.refusal is not None
        assert refused.refusal.text == "The request was judged unsafe: S1 Animals."
        assert model.chat(SAFE, temperature=0).refusal is None
        (searched,) = model.generate(ANIMAL, num_beams=2, max_new_tokens=4).finish_reasons
        assert searched is FinishReason.CONTENT_FILTER


def test_the_command_says_why_there_is_no_answer(policy: SafetySettings) -> None:
    flags = ["--safety-model", str(policy.safety_model), "--safety-policy", str(policy.safety_policy)]
    ran = CliRunner().invoke(run_command, ["cria", ANIMAL, "--context-length", "512", "--threads", "1", *flags])
    assert (ran.exit_code, ran.stdout.strip()) == (0, "")
    assert "The request was judged unsafe: S1 Animals." in ran.stderr
