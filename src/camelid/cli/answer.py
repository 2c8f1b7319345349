"""Printing an answer while it is made, and what `--verbose` says about it afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import click

from camelid.types import Event, Finished, Refusal, Started, Text, ToolCalled, Usage


@dataclass
class Answer:
    """What came of a request so far. Times are in seconds since the request was made."""

    text: str = ""
    usage: Usage | None = None
    refusal: Refusal | None = None
    first_token_s: float | None = None
    total_s: float = 0.0


async def print_answer(events: AsyncIterator[Event], answer: Answer) -> None:
    """Print the text of `events` to standard output as it arrives and keep it in `answer`, which is true also when cut
    short.
    """
    start = time.monotonic()
    try:
        async for event in events:
            if answer.first_token_s is None and not isinstance(event, Started):
                answer.first_token_s = time.monotonic() - start
            _take(event, answer)
    finally:
        answer.total_s = time.monotonic() - start
        if answer.text and not answer.text.endswith("\n"):
            click.echo()
        if answer.refusal is not None:
            click.echo(answer.refusal.text, err=True)


def _take(event: Event, answer: Answer) -> None:
    if isinstance(event, Text):
        answer.text += event.text
        click.echo(event.text, nl=False)
    elif isinstance(event, ToolCalled):
        call = f'{{"name": "{event.call.name}", "parameters": {event.call.arguments}}}'
        answer.text += call
        click.echo(call)
    elif isinstance(event, Finished):
        answer.usage = event.usage or answer.usage
        answer.refusal = event.refusal or answer.refusal


def statistics(answer: Answer) -> str:
    """Return what an answer took: tokens read and written, their rates, the time to the first token."""
    if answer.usage is None or answer.first_token_s is None:
        return f"stopped after {answer.total_s:.2f} s"
    usage, writing_s = answer.usage, max(answer.total_s - answer.first_token_s, 1e-9)
    computed = usage.prompt_tokens - usage.cached_tokens
    read = (
        f"prompt: {usage.prompt_tokens} tokens ({usage.cached_tokens} cached), {computed / answer.first_token_s:.1f}/s"
    )
    # The first token comes out of reading the prompt, so only the others count as written.
    written = f"answer: {usage.completion_tokens} tokens, {max(usage.completion_tokens - 1, 0) / writing_s:.1f}/s"
    return f"{read}\n{written}\nfirst token after {answer.first_token_s:.3f} s, all after {answer.total_s:.3f} s"
