"""`camelid stop`: have a running server unload a model."""

from __future__ import annotations

import click

from camelid.cli.client import ask
from camelid.cli.options import server_options
from camelid.errors import NotFound


@click.command("stop")
@click.argument("name")
@server_options
def command(name: str, **flags: str | None) -> None:
    """Have a running server unload the model NAME: now, or as soon as its running answers are complete."""
    try:
        ask("POST", "/api/generate", flags, {"model": name, "keep_alive": 0, "stream": False})
    except NotFound as error:
        raise NotFound(f'couldn\'t find model "{name}" to stop', hint="camelid ps shows what is loaded") from error
