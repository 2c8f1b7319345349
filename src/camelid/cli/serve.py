"""`camelid serve`: models behind HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from camelid.cli.options import setting_options
from camelid.settings import (
    KeepSettings,
    LogSettings,
    ModelSettings,
    SafetySettings,
    ServerSettings,
    group,
    parse_ranks,
    read_settings,
)


@click.command("serve")
@click.argument("model", required=False)
@click.option(
    "--truss",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Serve the Model class of a Truss folder, in a process of its own, instead of a model.",
)
@setting_options(ServerSettings, ModelSettings, KeepSettings, SafetySettings, LogSettings)
def command(model: str | None, truss: Path | None, **flags: str | None) -> None:
    """Serve MODEL with the APIs of OpenAI, Ollama and Anthropic, until SIGTERM or Ctrl-C.

    A model that is not here yet is fetched first. Without a key, only this machine may ask. Running answers are
    finished before the server leaves. Without MODEL, CAMELID_MODEL or OLLAMA_MODEL_NAME says it, and MODEL in a
    container whose first process this is; else it is `cria`. Under `torchrun` the first process serves, with a rank for
    each process.
    """
    settings = read_settings(flags)
    if truss is not None:
        _serve_truss(truss, model, settings)
        return
    model = model or named_by(os.environ, is_first_process=os.getpid() == 1) or "cria"
    from camelid.cli.logs import configure_logs
    from camelid.cli.pull import fetch_if_missing
    from camelid.integrations.salad_metadata import on_salad
    from camelid.runtime.runtime import Runtime
    from camelid.runtime.torchrun import Places, launch_of, wait_for_first
    from camelid.server.app import serve

    configure_logs(group(LogSettings, settings))
    own = group(ModelSettings, settings)
    launch = launch_of(os.environ)
    if launch is not None and launch.rank:
        wait_for_first(launch)
        return
    places = Places(launch) if launch is not None else None  # kept as long as it is served
    if launch is not None:
        own = replace(own, tensor_parallel=parse_ranks(str(launch.size)))
    runtime = Runtime(own, keep=group(KeepSettings, settings), safety=group(SafetySettings, settings))
    with on_salad(os.environ, lambda: runtime.health().num_in_flight) as also:
        serve(
            runtime,
            group(ServerSettings, settings),
            model,
            models=own.models,
            fetch=partial(fetch_if_missing, model, own.models),
            also=also,
        )
    del places


def _serve_truss(folder: Path, model: str | None, settings: Mapping[str, Any]) -> None:
    if model is not None:
        raise click.UsageError("--truss takes no MODEL: the folder's class loads what it needs")
    if settings["async_queue"] is not None:
        raise click.UsageError("--async-queue does not go with --truss: the queue is for the server's own models")
    from camelid.cli.logs import configure_logs
    from camelid.integrations.truss.serving import serve

    configure_logs(group(LogSettings, settings))
    serve(folder, group(ServerSettings, settings))


def named_by(environment: Mapping[str, str], *, is_first_process: bool) -> str | None:
    """Return the model that the environment names; `MODEL` is too common a name to count outside a container."""
    names = ("CAMELID_MODEL", "OLLAMA_MODEL_NAME", *(("MODEL",) if is_first_process else ()))
    return next((environment[name] for name in names if environment.get(name)), None)
