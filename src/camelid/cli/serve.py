"""`camelid serve`: models behind HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import click

from camelid.cli.options import setting_options
from camelid.settings import (
    KeepSettings,
    LogSettings,
    ModelSettings,
    SafetySettings,
    ServerSettings,
    group,
    read_settings,
)


@click.command("serve")
@click.argument("model", required=False)
@setting_options(ServerSettings, ModelSettings, KeepSettings, SafetySettings, LogSettings)
def command(model: str | None, **flags: str | None) -> None:
    """Serve MODEL with the APIs of OpenAI, Ollama and Anthropic, until SIGTERM or Ctrl-C.

    A model that is not here yet is fetched first. Without a key, only this machine may ask. Running answers are
    finished before the server leaves. Without MODEL, CAMELID_MODEL or OLLAMA_MODEL_NAME says it, and MODEL in a
    container whose first process this is; else it is `cria`.
    """
    settings = read_settings(flags)
    model = model or named_by(os.environ, is_first_process=os.getpid() == 1) or "cria"
    from camelid.cli.logs import configure_logs
    from camelid.cli.pull import fetch_if_missing
    from camelid.runtime.runtime import Runtime
    from camelid.server.app import serve

    configure_logs(group(LogSettings, settings))
    own = group(ModelSettings, settings)
    serve(
        Runtime(own, keep=group(KeepSettings, settings), safety=group(SafetySettings, settings)),
        group(ServerSettings, settings),
        model,
        models=own.models,
        fetch=partial(fetch_if_missing, model, own.models),
    )


def named_by(environment: Mapping[str, str], *, is_first_process: bool) -> str | None:
    """Return the model that the environment names; `MODEL` is too common a name to count outside a container."""
    names = ("CAMELID_MODEL", "OLLAMA_MODEL_NAME", *(("MODEL",) if is_first_process else ()))
    return next((environment[name] for name in names if environment.get(name)), None)
