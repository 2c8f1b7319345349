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


DEVICES = ("gpu", "cpu", "reference")


def devices(settings: ModelSettings) -> tuple[str, ...]:
    """Return the devices to try, the fastest first: the one that `settings.device` names, or all that `auto` may take.

    Raises InvalidSetting for another name.
    """
    if settings.device in DEVICES:
        return (settings.device,)
    if settings.device != "auto":
        raise InvalidSetting(f"device must be auto, gpu, cpu or reference, got {settings.device!r}")
    from .gpu.opening import can_use_gpu

    return ("gpu", "cpu") if can_use_gpu() else ("cpu",)


def choose_backend(settings: ModelSettings) -> Backend:
    """Return the backend that `settings.device` names; `auto` takes the fastest one that this machine has.

    Raises InvalidSetting for another name or an instruction set that the machine lacks, MissingDependency when what the
    backend needs is not installed or not there.
    """
    device = devices(settings)[0]
    backend = {"gpu": _gpu, "cpu": _cpu, "reference": _reference}[device](settings)
    _log.debug("computing on %s", backend.name)  # in a front and in an engine; the runtime says it once
    return backend


def _gpu(settings: ModelSettings) -> Backend:
    from .gpu.opening import open_gpu

    return open_gpu()


def _reference(settings: ModelSettings) -> Backend:
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
