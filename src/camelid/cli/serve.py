"""`camelid serve`: models behind HTTP."""

from __future__ import annotations

import click

from camelid.cli.options import setting_options
from camelid.settings import KeepSettings, LogSettings, ModelSettings, ServerSettings, group, read_settings


@click.command("serve")
@click.argument("model", default="cria")
@setting_options(ServerSettings, ModelSettings, KeepSettings, LogSettings)
def command(model: str, **flags: str | None) -> None:
    """Serve MODEL with the APIs of OpenAI and Ollama, until SIGTERM or Ctrl-C.

    Without a key, only this machine may ask. Running answers are finished before the server leaves.
    """
    settings = read_settings(flags)
    from camelid.cli.logs import configure_logs
    from camelid.runtime.runtime import Runtime
    from camelid.server.app import serve

    configure_logs(group(LogSettings, settings))
    own = group(ModelSettings, settings)
    serve(Runtime(own, keep=group(KeepSettings, settings)), group(ServerSettings, settings), model, models=own.models)
