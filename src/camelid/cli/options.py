"""The rows of the settings table as flags, so that no verb spells out a setting again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from camelid.settings import SETTINGS, LogSettings, ModelSettings, ServerSettings, Setting, parse_bool

_Command = TypeVar("_Command", bound=Callable[..., Any])


def setting_options(*groups: type[ModelSettings | ServerSettings | LogSettings]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds a flag for every setting of `groups`. Values arrive as text; unset ones as None."""
    names = {name for group in groups for name in group.__dataclass_fields__}

    def decorate(command: _Command) -> _Command:
        for setting in reversed([row for row in SETTINGS if row.name in names]):
            command = _option(setting)(command)
        return command

    return decorate


def _option(setting: Setting) -> Callable[[_Command], _Command]:
    if setting.parse is parse_bool:
        return click.option(setting.flag, setting.name, is_flag=True, default=None, help=setting.meaning)
    return click.option(setting.flag, setting.name, default=None, metavar=setting.metavar, help=setting.meaning)
