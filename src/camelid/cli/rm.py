"""`camelid rm`: forget models."""

from __future__ import annotations

import click

from camelid.cli.store import models_option, opened


@click.command("rm")
@click.argument("names", nargs=-1, required=True)
@models_option
def command(names: tuple[str, ...], models: str | None) -> None:
    """Delete models, and the files that no other model needs."""
    from camelid.store.names import parse_name

    store = opened(models)
    for name in map(parse_name, names):
        store.remove(name)
        click.echo(f"deleted '{name}'", err=True)
