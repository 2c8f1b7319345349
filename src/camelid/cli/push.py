"""`camelid push`: send a model to a registry."""

from __future__ import annotations

import click

from camelid.cli.progress import bar
from camelid.cli.store import models_folder, models_option


@click.command("push")
@click.argument("source")
@click.argument("target", required=False)
@models_option
def command(source: str, target: str | None, models: str | None) -> None:
    """Send a model of the store to the registry that its name says, or to TARGET."""
    from camelid.store.names import parse_name
    from camelid.store.places import find_entry
    from camelid.store.transfer import Watcher, push

    entry = find_entry(parse_name(source), models_folder(models))
    goal = parse_name(target or source)
    with bar(f"sending {goal}", entry.manifest.size) as done:
        push(entry, goal, Watcher(done=done))
    click.echo(f"{goal} is in its registry", err=True)
