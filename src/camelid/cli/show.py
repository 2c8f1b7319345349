"""`camelid show`: what a model is."""

from __future__ import annotations

import json
from typing import Any

import click

from camelid.cli.store import models_folder, models_option


@click.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--variants", "of_registry", is_flag=True, help="Show what its registry has of it, and what would fit.")
@models_option
def command(name: str, as_json: bool, of_registry: bool, models: str | None) -> None:
    """Show what a model is: a name of the store, `cria`, or a file.

    With --variants, a table of all there is of it where it comes from: parameters, type, longest context, size, and
    the memory that it needs here at the context that it would be loaded with.
    """
    if of_registry:
        from camelid.cli.estimates import show_variants
        from camelid.settings import ModelSettings, group, read_settings
        from camelid.store.names import parse_name

        show_variants(parse_name(name), group(ModelSettings, read_settings({"models": models})), as_json=as_json)
        return
    found = _sections(name, models_folder(models))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for title, values in found.items():
        if not values:
            continue
        click.echo(f"  {title.capitalize()}")
        for key, value in values.items():
            click.echo(f"    {key:<22}{value}")
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
