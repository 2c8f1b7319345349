"""`camelid list`: the models on this machine."""

from __future__ import annotations

import json

import click

from camelid.cli.store import age_of, models_folder, models_option, print_table, size_of


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model.")
@models_option
def command(as_json: bool, models: str | None) -> None:
    """Show the models on this machine, those of Ollama included."""
    from camelid.store.places import all_stores

    found = {entry.name: entry for store in reversed(all_stores(models_folder(models))) for entry in store.entries()}
    entries = sorted(found.values(), key=lambda entry: -entry.modified_s)
    if as_json:
        for entry in entries:
            row = {"name": str(entry.name), "digest": str(entry.manifest.digest), "size": entry.manifest.size}
            click.echo(json.dumps({**row, "modified": entry.modified_s, "store": str(entry.store.folder)}))
        return
    rows = [
        (str(entry.name), entry.manifest.digest.hex[:12], size_of(entry.manifest.size), age_of(entry.modified_s))
        for entry in entries
    ]
    print_table(("NAME", "ID", "SIZE", "MODIFIED"), rows)
