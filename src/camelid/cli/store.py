"""What the verbs on stored models share: the option for the folder, sizes, ages, tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from camelid.settings import ModelSettings, group, read_settings
from camelid.store.places import own_store
from camelid.store.store import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])
_AGES = (
    ("year", 365 * 86400),
    ("month", 30 * 86400),
    ("week", 7 * 86400),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
)


def models_option(command: _Command) -> _Command:
    """Add `--models FOLDER`."""
    return click.option("--models", metavar="FOLDER", help="Folder of the store; default: see `camelid settings`.")(
        command
    )


def models_folder(flag: str | None) -> str | None:
    """Return the folder that flag, variable or settings file name."""
    return group(ModelSettings, read_settings({"models": flag})).models


def opened(flag: str | None) -> Store:
    """Return our store."""
    return own_store(models_folder(flag))


def size_of(size: float) -> str:
    """Write a size as Ollama does: decimal units, two digits."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_of(then_s: float) -> str:
    """Write how long ago something was."""
    passed_s = max(time.time() - then_s, 0)
    for unit, length_s in _AGES:
        count = int(passed_s // length_s)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "less than a minute ago"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns to standard output, left aligned and four spaces apart."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    for line in (head, *rows):
        click.echo("    ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
