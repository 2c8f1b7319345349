"""`camelid verify`: whether what is stored is what was fetched."""

from __future__ import annotations

import click

from camelid.cli.progress import bar
from camelid.cli.store import models_option, opened


@click.command("verify")
@click.argument("names", nargs=-1)
@models_option
def command(names: tuple[str, ...], models: str | None) -> None:
    """Read models and check every byte against its digest; all models, if none is named.

    A damaged fast copy (see --fast-copies of `serve`) is deleted: the model does without.
    """
    from camelid.store.names import parse_name

    store = opened(models)
    for name in map(parse_name, names) if names else list(store.manifests):
        entry = store.entry(name)
        with bar(f"reading {name}", entry.manifest.size) as done:
            store.verify(entry, done)
        if store.drop_damaged_copy(entry):
            click.echo(
                f"the fast copy of {name} was damaged and is deleted; another is made when it is served", err=True
            )
        click.echo(f"{name}: sound")
