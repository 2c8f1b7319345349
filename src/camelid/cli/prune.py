"""`camelid prune`: files in the store that no model needs."""

from __future__ import annotations

import click

from camelid.cli.store import models_option, opened, size_of


@click.command("prune")
@click.option("--yes", is_flag=True, help="Delete them.")
@models_option
def command(yes: bool, models: str | None) -> None:
    """Show what no model needs: files of deleted models, downloads nobody goes on with. Deletes only with --yes."""
    store = opened(models)
    leftovers = store.prune() if yes else store.leftovers()
    for leftover in leftovers:
        click.echo(f"{size_of(leftover.size):>10}  {leftover.path.name}")
    total = size_of(sum(leftover.size for leftover in leftovers))
    click.echo(f"{total} {'freed' if yes else 'would be freed; --yes deletes'}", err=True)
