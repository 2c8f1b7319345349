"""Requests that ask for everything there is, among plain ones in one batch: each is answered as if it were alone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from camelid.rules import Beams, Rules
from camelid.runtime.collected import Answer
from camelid.runtime.many_answers import collect_async
from camelid.runtime.runtime import Runtime
from camelid.settings import ModelSettings, SafetySettings
from camelid.store.local import find
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    FinishReason,
    Generation,
    Grammar,
    Message,
    Sampling,
    Stopping,
    ToolSpec,
)
from tests.lora import random_pairs, spec_of, write_gguf_lora

GUARD = Path(__file__).parents[1] / "models" / "guard.gguf"
POLICY = "S1: Animals.\nS2: Fruit.\nS3: Vehicles.\nS4: Music.\nS5: Llamas.\n"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (ToolSpec("get_weather", "Return the weather of a city.", CITY), ToolSpec("get_time", "", CITY, is_strict=True))
FORM = Grammar.schema({**CITY, "additionalProperties": False}, "format")
SUM = Grammar.schema({"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}, "format")
BEAMS = Beams(4, length_penalty=0.7)
SHORT = Stopping(max_tokens=12)
Request = ChatRequest | CompletionRequest


def chat(text: str, model: str = "cria", tools: tuple[ToolSpec, ...] = (), **generation: Any) -> ChatRequest:
    given = {"sampling": Sampling(temperature=0.8, seed=3), "stopping": Stopping(max_tokens=24), **generation}
    return ChatRequest(model, (Message("user", text),), tools, Generation(**given))


def special() -> list[Request]:
    """Return one request with all at once, and one for each alone; the safety model judges all of them."""
    everything = chat("What is the weather in Paris?", "cria:one", TOOLS, beams=BEAMS, grammar=FORM, num_choices=2)
    return [
        everything,
        chat("What is the weather in Oslo?", tools=TOOLS),
        chat("Hello!", beams=BEAMS, num_choices=3, rules=Rules(no_repeat_ngram_size=2)),
        chat("Hello!", beams=replace(BEAMS, samples=True), top_logprobs=2),
        chat("Sort: 3 1 2", "cria:one"),
        chat("What is 17 + 25?", grammar=SUM),
        chat("Repeat: tiger"),  # which the safety model forbids
    ]


def plain() -> list[Request]:
    """Return twelve requests that ask for nothing of it, and are not judged."""
    chats = [replace(chat(f"What is {n} + {n * 7}?"), skips_safety=True) for n in range(6)]
    drawn = Generation(Sampling(temperature=1.2, top_k=40), SHORT)
    texts = [CompletionRequest("cria", f"{n} llamas", replace(drawn, num_choices=1 + n % 2)) for n in range(6)]
    return [*chats, *(replace(one, skips_safety=True) for one in texts)]


async def answer(runtime: Runtime, request: Request) -> Answer:
    events = runtime.chat(request) if isinstance(request, ChatRequest) else runtime.complete(request)
    async with aclosing(events):
        found = await collect_async(events)
    return replace(found, usage=replace(found.usage, cached_tokens=0), choices=tuple(map(without_id, found.choices)))


def without_id(choice: Any) -> Any:
    """Return a choice whose calls have no ids, which are random."""
    return replace(choice, tool_calls=tuple(replace(call, id="") for call in choice.tool_calls))


def test_each_request_of_a_mixed_batch_is_answered_as_if_it_were_alone(tmp_path: Path) -> None:
    lora = write_gguf_lora(tmp_path / "one.gguf", random_pairs(spec_of(find("cria").weights), 1, spread=0.02))
    policy = tmp_path / "policy.txt"
    policy.write_text(POLICY)
    settings = ModelSettings(
        device="cpu", threads=1, context_length=512, max_sequences=48, adapter=(("one", str(lora)),)
    )
    safety = SafetySettings(safety_model=str(GUARD), safety_policy=str(policy))

    async def go() -> None:
        runtime = Runtime(settings, safety=safety, in_process=True)
        try:
            await runtime.load("cria")
            requests = [*special(), *plain()]
            alone = [await answer(runtime, request) for request in requests]
            together = await asyncio.gather(*(answer(runtime, request) for request in requests))
            assert together == alone
            check_that_all_was_asked(alone[: len(special())])
        finally:
            await runtime.close()

    asyncio.run(asyncio.wait_for(go(), 120))


def check_that_all_was_asked(answers: list[Answer]) -> None:
    everything, called, best, drawn, adapted, formed, judged = answers
    assert len(everything.choices) == 2
    assert all(choice.score is not None for choice in everything.choices)
    assert called.finish_reason is FinishReason.TOOL_CALLS
    scores = [choice.score or 0.0 for choice in best.choices]
    assert scores == sorted(scores, reverse=True)
    assert all(score.top for score in drawn.choices[0].scores)
    assert adapted.usage.completion_tokens > 0
    assert formed.text.startswith("{")
    assert judged.finish_reason is FinishReason.CONTENT_FILTER
