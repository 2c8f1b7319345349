"""A chat at the terminal: a line is a question, a line that begins with a slash is a command.

Text between triple quotes may have several lines. Ctrl-C stops the answer that is being written, Ctrl-D leaves.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from camelid.cli.answer import Answer, print_answer, statistics
from camelid.cli.conversation import Conversation
from camelid.cli.entry import QUOTES, EntryReader, Leave
from camelid.cli.main import report
from camelid.cli.parameters import PARAMETERS, generation
from camelid.errors import CamelidError, InvalidRequest

if TYPE_CHECKING:
    from camelid.runtime.runtime import Runtime

HELP = f"""\
/system [TEXT]     show the system prompt, or set it
/set NAME VALUE    set a parameter: {", ".join(PARAMETERS)}
/show              show the system prompt and the parameters that are set
/reset             forget what was said
/bye               leave (also Ctrl-D)
{QUOTES}                begin and end a question of several lines
Ctrl-C             stop the answer
"""


class Console:
    """One person, one conversation, one terminal."""

    def __init__(self, runtime: Runtime, conversation: Conversation, verbose: bool) -> None:
        self.runtime = runtime
        self.conversation = conversation
        self.verbose = verbose
        self.commands: dict[str, Callable[[str], None]] = {
            "/system": self.system,
            "/set": self.set,
            "/show": self.show,
            "/reset": self.reset,
            "/help": self.help,
            "/?": self.help,
            "/bye": self.bye,
            "/exit": self.bye,
        }

    async def chat(self) -> None:
        """Read and answer until the person leaves."""
        click.echo(f"{self.conversation.model} is ready. /help lists the commands.", err=True)
        entries = EntryReader()
        with suppress(Leave):
            while True:
                await self.take(await entries.read())

    async def take(self, entry: str) -> None:
        """Carry out one entry: nothing, a command, or a question. Errors are shown, and the chat goes on."""
        try:
            if entry.startswith("/"):
                self.run_command(entry)
            elif entry:
                await self.answer(entry)
        except CamelidError as error:
            report(error)

    def run_command(self, entry: str) -> None:
        """Carry out a line that begins with a slash."""
        name, _, rest = entry.partition(" ")
        if name not in self.commands:
            raise InvalidRequest(f"there is no command {name}", hint="/help lists the commands")
        self.commands[name](rest.strip())

    async def answer(self, question: str) -> None:
        """Ask the model. Ctrl-C stops the answer; what was said until then stays in the conversation."""
        answer = Answer()
        task = asyncio.ensure_future(print_answer(self.runtime.chat(self.conversation.ask(question)), answer))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            click.echo("(stopped)", err=True)
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        if answer.text:
            self.conversation.answered(question, answer.text)
        if self.verbose:
            click.echo(statistics(answer), err=True)

    def system(self, text: str) -> None:
        """Show or set the system prompt."""
        if text:
            self.conversation.system = text.strip('"')
        else:
            click.echo(self.conversation.system or "(no system prompt)", err=True)

    def set(self, assignment: str) -> None:
        """Set one parameter; what cannot be is refused and changes nothing."""
        name, _, text = assignment.partition(" ")
        if name not in PARAMETERS:
            raise InvalidRequest(f"there is no parameter {name!r}", hint=f"there are {', '.join(PARAMETERS)}")
        parameters = {**self.conversation.parameters, name: PARAMETERS[name].read(text.strip())}
        generation(self.conversation.defaults, parameters)  # raises for a value out of range
        self.conversation.parameters = parameters

    def show(self, _: str) -> None:
        """Show what is set."""
        click.echo(f"system: {self.conversation.system or '(none)'}", err=True)
        for name, value in self.conversation.parameters.items():
            click.echo(f"{name}: {value}", err=True)

    def reset(self, _: str) -> None:
        """Forget what was said."""
        self.conversation.reset()
        click.echo("forgotten", err=True)

    def help(self, _: str) -> None:
        """List the commands."""
        click.echo(HELP, err=True)

    def bye(self, _: str) -> None:
        """Leave."""
        raise Leave
