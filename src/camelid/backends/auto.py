"""The one place that chooses a backend by name. Everyone else is given one.

Backends are imported only when they are chosen: the base install has no torch, and a tool that never computes needs no
compiled extension.
"""

from __future__ import annotations

import logging

from camelid.errors import InvalidSetting, MissingDependency
from camelid.settings import ModelSettings

from .base import Backend

_log = logging.getLogger(__name__)


def choose_backend(settings: ModelSettings) -> Backend:
    """Return the backend that `settings.device` names; `auto` takes the fastest one that this machine has.

    Raises InvalidSetting for another name or an instruction set that the machine lacks, MissingDependency when the
    compiled extension is not there.
    """
    if settings.device == "reference":
        return _reference()
    if settings.device not in ("auto", "cpu"):
        raise InvalidSetting(f"device must be auto, cpu or reference, got {settings.device!r}")
    backend = _cpu(settings)
    reason = "it was asked for" if settings.device == "cpu" else "no faster backend is built into this version"
    _log.debug("computing on %s: %s", backend.name, reason)  # in a front and in an engine; the runtime says it once
    return backend


def _reference() -> Backend:
    from .reference.backend import ReferenceBackend

    return ReferenceBackend()


def _cpu(settings: ModelSettings) -> Backend:
    try:
        from .cpu.backend import CpuBackend
    except ImportError as error:
        raise MissingDependency(
            f"the compiled part of Camelid cannot be loaded: {error}",
            hint="install camelid again, with a C++ compiler at hand; --device reference works without, slowly",
        ) from error
    return CpuBackend(threads=settings.threads, isa=settings.cpu_isa)
