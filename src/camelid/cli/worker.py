"""`camelid worker`: a model that answers the jobs of somebody else's server."""

from __future__ import annotations

import asyncio

import click

from camelid.cli.options import setting_options
from camelid.settings import LogSettings, ModelSettings, WorkerSettings, group, read_settings


@click.group("worker")
def command() -> None:
    """Answer the jobs that another program hands out."""


@command.command("aime")
@click.argument("model", default="cria")
@setting_options(WorkerSettings, ModelSettings, LogSettings)
def aime(model: str, **flags: str | None) -> None:
    """Answer the jobs of an AIME API server with MODEL, until SIGTERM or Ctrl-C.

    Running jobs are finished before the worker leaves; what cannot be finished is answered with an error.
    """
    settings = read_settings(flags)
    from camelid.cli.logs import configure_logs
    from camelid.integrations.aime.work import work
    from camelid.runtime.runtime import Runtime

    configure_logs(group(LogSettings, settings))
    own = group(ModelSettings, settings)
    asyncio.run(work(Runtime(own), model, group(WorkerSettings, settings), own.max_sequences))
