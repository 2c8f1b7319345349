"""Write the reference pages under docs/reference from the code: settings, command, errors.

Usage: python tools/reference_pages.py            writes the pages
       python tools/reference_pages.py --check    fails if a page is stale (a test does the same)
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from camelid import errors
from camelid.cli.main import VERBS, cli
from camelid.settings import SETTINGS, Setting

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
GENERATED = "<!-- written by tools/reference_pages.py: change the code, not this page -->\n\n"


def settings_page() -> str:
    """Return the table of settings."""
    rows = [f"| `{row.flag}` | {_variables(row)} | {_default(row.default)} | {row.meaning} |" for row in SETTINGS]
    head = "| flag | variables | default | meaning |\n|---|---|---|---|\n"
    text = (
        "# Settings\n\nA flag wins over a variable, over the settings file (`~/.config/camelid/config.toml`,\n"
        "or the file that `CAMELID_CONFIG` names), over the default.\n"
        "In the file, a setting has the flag's name with underscores: `context_length = 8192`.\n"
        "`camelid settings` shows the effective values.\n\n"
    )
    return text + head + "\n".join(rows) + "\n"


def _variables(row: Setting) -> str:
    return ", ".join(f"`{name}`" for name in row.variables)


def _default(value: object) -> str:
    return "automatic" if value is None else "none" if value == () else f"`{value}`"


def command_page() -> str:
    """Return the help texts of the command and of its verbs."""
    sections = [f"## {name}\n\n```\n{text}\n```\n" for name, text in _helps()]
    return "# The command\n\n" + "\n".join(sections)


def _helps() -> Iterator[tuple[str, str]]:
    context = click.Context(cli, info_name="camelid", max_content_width=100)
    yield "camelid", cli.get_help(context)
    for verb in VERBS:
        command = cli.get_command(context, verb)
        if command is None:
            raise LookupError(verb)
        yield from _command_helps(command, click.Context(command, parent=context, info_name=verb))


def _command_helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    context.max_content_width = 100
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _command_helps(below, click.Context(below, parent=context, info_name=name))


def errors_page() -> str:
    """Return the error tree as its module draws it."""
    drawing = inspect.cleandoc(errors.__doc__ or "").split("\n\n")
    return f"# Errors\n\n{drawing[0]}\n\n```\n{drawing[1]}\n```\n\n" + "\n\n".join(drawing[2:]) + "\n"


PAGES = {"settings.md": settings_page, "command.md": command_page, "errors.md": errors_page}


def main() -> int:
    """Write or check all pages."""
    stale = []
    for name, make in PAGES.items():
        text = GENERATED + make()
        file = FOLDER / name
        if "--check" in sys.argv:
            stale += [name] if not file.exists() or file.read_text(encoding="utf-8") != text else []
        else:
            file.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run python tools/reference_pages.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
