"""The rows of the settings table as flags, so that no verb spells out a setting again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from camelid.settings import (
    SETTINGS,
    KeepSettings,
    LogSettings,
    ModelSettings,
    SafetySettings,
    ServerSettings,
    Setting,
    WorkerSettings,
    parse_adapters,
    parse_bool,
)

Groups = type[ModelSettings | KeepSettings | ServerSettings | WorkerSettings | SafetySettings | LogSettings]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def setting_options(
    *groups: Groups,
) -> Callable[[_Command], _Command]:
    """Return a decorator that adds a flag for every setting of `groups`. Values arrive as text; unset ones as None."""
    names = {name for group in groups for name in group.__dataclass_fields__}

    def decorate(command: _Command) -> _Command:
        for setting in reversed([row for row in SETTINGS if row.name in names]):
            command = _option(setting)(command)
        return command

    return decorate


def server_options(command: _Command) -> _Command:
    """Add the flags that say where a running server is, and its key."""
    for name in ("api_key", "port", "host"):
        setting = next(row for row in SETTINGS if row.name == name)
        help_text = {"host": "Address of the server.", "port": "Port of the server.", "api_key": "Key of the server."}
        command = click.option(setting.flag, name, default=None, metavar=setting.metavar, help=help_text[name])(command)
    return command


def _option(setting: Setting) -> Callable[[_Command], _Command]:
    if setting.parse is parse_bool:
        return click.option(setting.flag, setting.name, is_flag=True, default=None, help=setting.meaning)
    is_multiple = setting.parse is parse_adapters
    return click.option(
        setting.flag,
        *setting.other_flags,
        setting.name,
        default=None,
        multiple=is_multiple,
        metavar=setting.metavar,
        help=setting.meaning,
    )
