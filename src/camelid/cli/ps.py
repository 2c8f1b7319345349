"""`camelid ps`: the models that a running server has in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from camelid.cli.client import ask
from camelid.cli.options import server_options
from camelid.cli.store import print_table, size_of

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
FOR_EVER_DAYS = 36500  # further away than anybody means


@click.command("ps")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model.")
@server_options
def command(as_json: bool, **flags: str | None) -> None:
    """Show the models that a running server has in memory, and when they leave."""
    models = ask("GET", "/api/ps", flags)["models"]
    if as_json:
        for model in models:
            click.echo(json.dumps(model))
        return
    now = datetime.now(UTC)
    print_table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), [row(model, now) for model in models])


def row(model: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """Return the columns of one model."""
    size, on_gpu = int(model["size"]), int(model["size_vram"])
    return (
        model["name"],
        model["digest"][:12],
        size_of(size),
        processor(size, on_gpu),
        str(model.get("context_length", "")),
        until(model["expires_at"], now),
    )


def processor(size: int, on_gpu: int) -> str:
    """Say where a model lies, as Ollama does: `100% CPU`, `100% GPU`, or both shares."""
    share = round(100 * on_gpu / size) if size else 0
    if share in (0, 100):
        return "100% GPU" if share else "100% CPU"
    return f"{100 - share}%/{share}% CPU/GPU"


def until(expires_at: str, now: datetime) -> str:
    """Say how long a model stays, in whole units of the largest one that fits."""
    left_s = (datetime.fromisoformat(expires_at.replace("Z", "+00:00")) - now).total_seconds()
    if left_s > FOR_EVER_DAYS * 86400:
        return "Forever"
    for length_s, unit in _UNITS:
        count = int(left_s // length_s)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} from now"
    return "Stopping..."
