"""The command's door: which verbs there are, and what an error looks like.

Verbs are imported when they are called, so `camelid --help` costs no more than click itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

from camelid.errors import CamelidError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130  # what shells report for a process that SIGINT ended

# verb: (module, one line of help). The help stands here so that listing the verbs imports none of them.
VERBS = {
    "run": ("camelid.cli.run", "Ask a model once, or chat with it."),
    "serve": ("camelid.cli.serve", "Serve models with the APIs of OpenAI, Ollama and Anthropic."),
    "worker": ("camelid.cli.worker", "Answer the jobs of another program's server."),
    "deploy": ("camelid.cli.deploy", "Write what Kubernetes, SaladCloud or Truss need to serve a model."),
    "provision": ("camelid.cli.provision", "Give a server that runs its model, and wait until it is loaded."),
    "ps": ("camelid.cli.ps", "Show the models that a running server has in memory."),
    "stop": ("camelid.cli.stop", "Have a running server unload a model."),
    "pull": ("camelid.cli.pull", "Fetch a model from a registry."),
    "push": ("camelid.cli.push", "Send a model to a registry."),
    "list": ("camelid.cli.list", "Show the models on this machine."),
    "show": ("camelid.cli.show", "Show what a model is."),
    "cp": ("camelid.cli.cp", "Give a model a second name."),
    "rm": ("camelid.cli.rm", "Delete models."),
    "verify": ("camelid.cli.verify", "Check every byte of stored models."),
    "prune": ("camelid.cli.prune", "Show, or delete, what no model needs."),
    "create": ("camelid.cli.create", "Make a model from a Modelfile."),
    "convert": ("camelid.cli.convert", "Write a model in another layout: GGUF, safetensors, Meta's."),
    "quantize": ("camelid.cli.quantize", "Write a model in fewer bits."),
    "settings": ("camelid.cli.settings", "Show every setting: its value, where it can be set, what it does."),
    "eval": ("camelid.cli.eval", "Measure how good a model is."),
    "bench": ("camelid.cli.bench", "Make synthetic models and measure."),
}


class Verbs(click.Group):
    """A group whose commands are imported only when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one verb and return its command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from camelid import __version__

        click.echo(f"camelid {__version__}")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show it.")
def cli() -> None:
    """Run and serve Llama-class models with an engine of their own.

    MODEL is a name, a GGUF file, a folder with safetensors, or `cria`, the small model that comes with Camelid.
    """


def report(error: CamelidError) -> None:
    """Print an error, and what to do about it, to standard error."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"\nhint: {error.hint}", err=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for an error, 2 for a misused flag, 130 for an interrupt."""
    try:
        return int(cli.main(args=arguments, prog_name="camelid", standalone_mode=False) or 0)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as misuse:
        misuse.show()
        return misuse.exit_code
    except CamelidError as error:
        report(error)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`camelid run … | head`). Python would complain again while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
