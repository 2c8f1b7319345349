"""Camelid on a cluster of Ray: `serve run camelid.integrations.ray_serve:app`.

A front speaks HTTP and turns text into ids; replicas hold engines, as many as the load asks for. When a replica dies,
its requests go on in another one with the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Options", "build"]


def build(arguments: Mapping[str, str]) -> Any:
    """Return the application, for `serve run camelid.integrations.ray_serve:build model=llama3.1:8b` or a config file.

    Arguments are those of `Options`. Raises MissingDependency, InvalidSetting.
    """
    from .deployments import application

    return application(Options.of(arguments))


def __getattr__(name: str) -> Any:
    """Make `app` when it is asked for: of the settings in the environment."""
    if name == "app":
        return build({})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
