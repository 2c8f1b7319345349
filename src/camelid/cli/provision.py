"""`camelid provision`: a server that runs is given its model."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import click

from camelid.cli.options import setting_options
from camelid.errors import InvalidRequest, NotFound
from camelid.settings import LogSettings, group, read_settings


@click.command("provision")
@click.argument("name")
@click.option("--server", default="http://localhost:11434", show_default=True, help="Camelid's or Ollama's.")
@click.option("--file", "-f", "path", type=click.Path(path_type=Path), help="A Modelfile. Default: NAME is fetched.")
@click.option("--modelfile-base64", help="A Modelfile's text in base64, as a container's arguments carry it.")
@click.option("--inputs", type=click.Path(path_type=Path), help="JSON whose values are filled in for {inputs.KEY}.")
@click.option("--deadline-seconds", default=1200.0, show_default=True, help="How long all of it may take.")
@click.option("--no-load", is_flag=True, help="Leave loading the model to the first request.")
@setting_options(LogSettings)
def command(
    name: str,
    server: str,
    path: Path | None,
    modelfile_base64: str | None,
    inputs: Path | None,
    deadline_seconds: float,
    no_load: bool,
    **flags: str | None,
) -> None:
    """Give a server that runs the model NAME: fetched there, or made of a Modelfile, and loaded.

    Waits for the server, tries again while it is away, and ends with 0 when the model can be asked. Files that FROM and
    ADAPTER name are sent to it.
    """
    from camelid.cli.logs import configure_logs
    from camelid.integrations.flyte.inputs import fill_in, is_dynamic
    from camelid.integrations.provisioning import Wanted, provision

    configure_logs(group(LogSettings, read_settings(flags)))
    modelfile = _decoded(modelfile_base64) if modelfile_base64 is not None else _read(path) if path else None
    if modelfile is not None and is_dynamic(modelfile):
        modelfile = fill_in(modelfile, _inputs(inputs))
    provision(server, Wanted(name, modelfile, is_loaded=not no_load), deadline_seconds)
    click.echo(f"{name} is ready at {server}", err=True)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--modelfile-base64 holds no text in base64: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{path} cannot be read: {error}") from error


def _inputs(path: Path | None) -> dict[str, Any]:
    if path is None:
        raise InvalidRequest("the Modelfile has {inputs…} in it, and there are none", hint="give them with --inputs")
    try:
        found = json.loads(_read(path))
    except ValueError as error:
        raise InvalidRequest(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path} must hold an object, got {type(found).__name__}")
    return found
