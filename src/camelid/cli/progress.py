"""Signs of life during long work, on standard error, and only when a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Show that `model` is being loaded. Nothing is left on the screen afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"loading {model}"):
        yield


@contextmanager
def bar(title: str, total_bytes: int) -> Iterator[Callable[[int], object]]:
    """Yield a callable that is told how many bytes were done since the last call, and draws a bar with rate and time
    left.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total_bytes)
        yield lambda done: progress.advance(task, done)
