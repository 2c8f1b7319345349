"""`camelid settings`: every setting with its effective value, its variables and its meaning."""

from __future__ import annotations

import json

import click

from camelid.settings import SETTINGS, Setting, read_settings


@click.command("settings")
@click.option("--json", "as_json", is_flag=True, help="Print names and values (of keys, the count) as JSON.")
def command(as_json: bool) -> None:
    """Show every setting: its value here and now, where it can be set, what it does."""
    values = read_settings()
    if as_json:
        click.echo(json.dumps({**values, "api_key": len(values["api_key"])}, indent=2))
        return
    for setting in SETTINGS:
        click.echo(describe(setting, values[setting.name]))


def describe(setting: Setting, value: object) -> str:
    """Return three lines about a setting. Keys are counted, never shown."""
    shown = f"{len(value)} set" if setting.name == "api_key" and isinstance(value, tuple) else value
    sources = ", ".join((setting.flag, *setting.variables))
    return f"{setting.name} = {'automatic' if shown is None else shown}\n    {sources}\n    {setting.meaning}\n"
