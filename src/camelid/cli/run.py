"""`camelid run`: one answer to a prompt from the command line or a pipe, or a chat at the console."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from camelid.cli.answer import Answer, print_answer, statistics
from camelid.cli.conversation import Conversation
from camelid.cli.options import setting_options
from camelid.cli.parameters import PARAMETERS, parameter_options
from camelid.errors import InvalidRequest
from camelid.settings import LogSettings, ModelSettings, SafetySettings, group, read_settings
from camelid.types import MAX_GRAMMAR, Grammar, GrammarKind


@click.command("run")
@click.argument("model", default="cria")
@click.argument("prompt", nargs=-1)
@click.option("--system", default="", help="What the model is told before the conversation.")
@click.option("--verbose", "-v", is_flag=True, help="Say how many tokens it took, and how fast they were.")
@click.option(
    "--format",
    "answer_format",
    metavar="json|FILE",
    help="Answer with a JSON object, or with what the JSON schema in a file describes.",
)
@parameter_options
@setting_options(ModelSettings, SafetySettings, LogSettings)
def command(
    model: str,
    prompt: tuple[str, ...],
    system: str,
    verbose: bool,
    answer_format: str | None,
    **flags: str | None,
) -> None:
    """Ask MODEL once, or chat with it.

    With a PROMPT, or with text piped in, print one answer and leave. Piped text comes before the PROMPT. Without
    either,
    start a chat.
    """
    given = {
        name: PARAMETERS[name].read(text) for name, text in flags.items() if name in PARAMETERS and text is not None
    }
    settings = read_settings({name: value for name, value in flags.items() if name not in PARAMETERS})
    question = read_question(prompt)
    grammar = None if answer_format is None else read_format(answer_format)
    _run(_ask_or_chat(model, question, system, given, settings, verbose, grammar))


def read_question(prompt: tuple[str, ...]) -> str | None:
    """Return what to ask: the piped text and the words of the command line. None means: start a chat."""
    words = " ".join(prompt)
    if sys.stdin is None or sys.stdin.isatty():
        return words or None
    piped = sys.stdin.buffer.read().decode("utf-8", errors="replace").strip("\n")
    question = "\n\n".join(part for part in (piped, words) if part)
    if not question:
        raise InvalidRequest("there is no prompt", hint='give one: camelid run cria "Say hello in German."')
    return question


def read_format(given: str) -> Grammar:
    """Return the grammar that `--format` asks for. Raises InvalidRequest, of which BadGrammar is one."""
    if given == "json":
        return Grammar.json_object("--format")
    try:
        with Path(given).open(encoding="utf-8") as file:
            source = file.read(MAX_GRAMMAR + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--format {given} cannot be read: {error}", field="--format") from error
    return Grammar(GrammarKind.JSON_SCHEMA, source, "--format")


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end; SIGINT outside an answer leaves through asyncio's own handler as KeyboardInterrupt."""
    asyncio.run(coroutine)


def _with_adapter(model: str, settings: dict[str, Any]) -> str:
    """Return what the conversation is with: the model, with the first adapter that was given."""
    adapters = group(ModelSettings, settings).adapter
    return f"{model}:{adapters[0][0]}" if adapters else model


async def _ask_or_chat(
    model: str,
    question: str | None,
    system: str,
    given: dict[str, object],
    settings: dict[str, Any],
    verbose: bool,
    grammar: Grammar | None,
) -> None:
    from camelid.cli.logs import configure_logs
    from camelid.cli.progress import loading
    from camelid.cli.pull import fetch_if_missing
    from camelid.runtime.runtime import Runtime

    configure_logs(group(LogSettings, settings), quiet=not verbose)
    fetch_if_missing(model, group(ModelSettings, settings).models)
    safety = group(SafetySettings, settings)
    runtime = Runtime(group(ModelSettings, settings), safety=safety, in_process=True)
    try:
        with loading(model):
            loaded = await runtime.load(model)
        conversation = Conversation(_with_adapter(model, settings), loaded.sampling, system, given, grammar=grammar)
        if question is None:
            from camelid.cli.console import Console

            await Console(runtime, conversation, verbose).chat()
        else:
            answer = Answer()
            await print_answer(runtime.chat(conversation.ask(question)), answer)
            if verbose:
                click.echo(statistics(answer), err=True)
    finally:
        await runtime.close()
