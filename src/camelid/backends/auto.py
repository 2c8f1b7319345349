"""The one place that chooses a backend by name. Everyone else is given one.

Backends are imported only when they are chosen: the base install has no torch, and a tool that never computes needs no
compiled extension.
"""

from __future__ import annotations

import logging

from camelid.errors import InvalidSetting, MissingDependency
from camelid.settings import ModelSettings

from .base import Backend, Measured, Team

_log = logging.getLogger(__name__)


DEVICES = ("gpu", "cpu", "reference", "gpu-on-cpu")
SHARED = ("gpu", "gpu-on-cpu")  # on which a model may have several ranks


def devices(settings: ModelSettings) -> tuple[str, ...]:
    """Return the devices to try, the fastest first: the one that `settings.device` names, or all that `auto` may take.

    Raises InvalidSetting for another name, and for several ranks on a device that has one.
    """
    ranks = settings.tensor_parallel
    if settings.device in DEVICES:
        if ranks > 1 and settings.device not in SHARED:
            raise InvalidSetting(f"--tensor-parallel {ranks} needs GPUs, and --device is {settings.device}")
        return (settings.device,)
    if settings.device != "auto":
        raise InvalidSetting(f"device must be auto, gpu, cpu or reference, got {settings.device!r}")
    if ranks > 1:
        return ("gpu",)
    from .gpu.opening import can_use_gpu

    return ("gpu", "cpu") if can_use_gpu() else ("cpu",)


def survey(settings: ModelSettings) -> Measured:
    """Return what the device that `choose_backend` would take offers, without what it takes to compute there.

    Raises what `choose_backend` raises.
    """
    device = devices(settings)[0]
    if device == "gpu":
        from .gpu.opening import survey_gpus

        return survey_gpus(settings.tensor_parallel, settings.gpu_memory)
    if device == "gpu-on-cpu":
        from .cpu import machine
        from .gpu.opening import CheckedSurvey

        return CheckedSurvey(machine.memory())
    return choose_backend(settings)


def choose_backend(settings: ModelSettings, team: Team | None = None) -> Backend:
    """Return the backend that `settings.device` names; `auto` takes the fastest one that this machine has.

    `team` says which of several ranks this process is. Raises InvalidSetting for another name or an instruction set
    that the machine lacks, MissingDependency when what the backend needs is not installed or not there.
    """
    device = devices(settings)[0]
    if device in SHARED:
        is_fp8 = settings.gpu_weights == "fp8"
        backend = _gpu(team, on_cpu=device == "gpu-on-cpu", is_fp8=is_fp8)
    else:
        backend = {"cpu": _cpu, "reference": _reference}[device](settings)
    _log.debug("computing on %s", backend.name)  # in a front and in an engine; the runtime says it once
    return backend


def _gpu(team: Team | None, *, on_cpu: bool, is_fp8: bool) -> Backend:
    from .gpu.opening import open_gpu

    return open_gpu(team, on_cpu=on_cpu, is_fp8=is_fp8)


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
