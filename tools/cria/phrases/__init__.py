"""The wordings that people use, as data: one TOML file per family of skills."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any


def load(family: str) -> dict[str, Any]:
    """Return the wordings of a family of skills."""
    return tomllib.loads((files(__package__) / f"{family}.toml").read_text(encoding="utf-8"))
