"""`camelid cp`: a second name for a model."""

from __future__ import annotations

import click

from camelid.cli.store import models_option, opened


@click.command("cp")
@click.argument("source")
@click.argument("target")
@models_option
def command(source: str, target: str, models: str | None) -> None:
    """Give a model a second name. It takes no space."""
    from camelid.store.names import parse_name

    opened(models).copy(parse_name(source), parse_name(target))
    click.echo(f"copied '{source}' to '{target}'", err=True)
