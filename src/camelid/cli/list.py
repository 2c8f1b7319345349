"""`camelid list`: the models on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from camelid.cli.store import age_of, models_folder, models_option, print_table, size_of

if TYPE_CHECKING:
    from camelid.store.discovery import Found


@click.command("list")
@click.option("--all", "with_others", is_flag=True, help="Also what LM Studio, llama.cpp and Hugging Face keep here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model.")
@models_option
def command(with_others: bool, as_json: bool, models: str | None) -> None:
    """Show the models on this machine, those of Ollama included.

    With --all, also GGUF files and safetensors in the folders of LM Studio, llama.cpp and the Hugging Face cache. They
    run in place: give NAME to `camelid run`.
    """
    from camelid.store.places import all_stores

    found = {entry.name: entry for store in reversed(all_stores(models_folder(models))) for entry in store.entries()}
    entries = sorted(found.values(), key=lambda entry: -entry.modified_s)
    others = _others() if with_others else []
    if as_json:
        for entry in entries:
            row = {"name": str(entry.name), "digest": str(entry.manifest.digest), "size": entry.manifest.size}
            click.echo(json.dumps({**row, "modified": entry.modified_s, "store": str(entry.store.folder)}))
        for other in others:
            row = {"name": other.name, "size": other.size, "modified": other.modified_s}
            click.echo(json.dumps({**row, "file": str(other.weights), "program": other.program}))
        return
    rows = [
        (str(entry.name), entry.manifest.digest.hex[:12], size_of(entry.manifest.size), age_of(entry.modified_s))
        for entry in entries
    ]
    rows += [(other.name, other.program, size_of(other.size), age_of(other.modified_s)) for other in others]
    print_table(("NAME", "ID", "SIZE", "MODIFIED"), rows)


def _others() -> list[Found]:
    from camelid.store.discovery import discover

    return sorted(discover(), key=lambda found: -found.modified_s)
