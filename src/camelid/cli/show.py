"""`camelid show`: what a model is."""

from __future__ import annotations

import json
from typing import Any

import click

from camelid.cli.store import models_folder, models_option


@click.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@models_option
def command(name: str, as_json: bool, models: str | None) -> None:
    """Show what a model is: a name of the store, `cria`, or a file."""
    found = _sections(name, models_folder(models))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for title, values in found.items():
        if not values:
            continue
        click.echo(f"  {title.capitalize()}")
        for key, value in values.items():
            click.echo(f"    {key:<22}{', '.join(value) if isinstance(value, list) else value}")
        click.echo()


def _sections(name: str, models: str | None) -> dict[str, dict[str, Any]]:
    from camelid.runtime.summary import summarize
    from camelid.store.local import find

    files = find(name, models)
    model = {"name": files.name, "file": str(files.weights), **summarize(files.weights)}
    return {
        "model": model,
        "parameters": dict(files.parameters),
        "system": {"text": files.system} if files.system else {},
    }
