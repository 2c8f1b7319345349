"""What is deployed on Ray: which model, and how many replicas of what size."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from camelid.errors import InvalidSetting


@dataclass(frozen=True)
class Options:
    """How a model is served on a cluster. `cpus` and `gpus` are those of a replica.

    There are between `replicas` and `most_replicas` of them, one more as soon as each has more than `target_ongoing`
    requests. `fronts` speak HTTP.
    """

    model: str = "cria"
    replicas: int = 1
    most_replicas: int = 0
    target_ongoing: int = 8
    cpus: int = 4
    gpus: int = 0
    fronts: int = 1

    def __post_init__(self) -> None:
        for name, least in (("replicas", 1), ("target_ongoing", 1), ("fronts", 1), ("cpus", 0), ("gpus", 0)):
            if getattr(self, name) < least:
                raise InvalidSetting(f"{name} must be at least {least}, got {getattr(self, name)}")

    @classmethod
    def of(cls, arguments: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> Options:
        """Return the options of arguments as Serve passes them; the model may stand in CAMELID_MODEL.

        Raises InvalidSetting.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(arguments) - known):
            raise InvalidSetting(f"there is no option {unknown[0]!r}", hint=f"there are {', '.join(sorted(known))}")
        given = {"model": environment.get("CAMELID_MODEL") or "cria", **arguments}
        try:
            return cls(**{name: value if name == "model" else int(value) for name, value in given.items()})  # type: ignore[arg-type]
        except ValueError as error:
            raise InvalidSetting(f"an option is no whole number: {error}") from error
