"""The two roofs of a CPU: bytes read and multiply-adds made in a second, measured by the probes in native/probes.cpp.

On a machine that is shared they move from minute to minute, so a measurement probes between its own runs and holds
itself against the median of those.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.backends.cpu import machine
from camelid.backends.gpu.opening import probe
from camelid.errors import InvalidSetting, MissingDependency
from camelid.settings import ModelSettings

PROBE_S = 0.15
READ_BYTES = 512 * 2**20  # far more than any cache: what is read comes from memory
AHEAD_BYTES = (0, 1024, 4096)  # which prefetch distance reads fastest differs between machines: the best one counts


@dataclass(frozen=True)
class Roofs:
    """What so many threads of this machine can do at most, in a second."""

    isa: str
    threads: int
    read_bytes: float
    int8_macs: float
    fp32_macs: float


def middle(roofs: Sequence[Roofs]) -> Roofs:
    """Return the median of each roof. All must be of the same instruction set and threads."""
    return Roofs(
        roofs[0].isa,
        roofs[0].threads,
        statistics.median(one.read_bytes for one in roofs),
        statistics.median(one.int8_macs for one in roofs),
        statistics.median(one.fp32_macs for one in roofs),
    )


def probe_roofs(isa: str, threads: int, seconds: float = PROBE_S) -> Roofs:
    """Measure the roofs of an instruction set: about a second. Nothing else must run."""
    import camelid.backends.cpu._native as native

    return Roofs(
        isa,
        threads,
        max(native.probe_reading(isa, threads, READ_BYTES, distance, seconds) for distance in AHEAD_BYTES),
        native.probe_arithmetic(isa, "int8", threads, seconds),
        native.probe_arithmetic(isa, "fp32", threads, seconds),
    )


def probe_gpu(device: str, seconds: float = PROBE_S) -> Roofs:
    """Measure the roofs of the GPU, or of `gpu-on-cpu`: copying, and products in the type that is computed in.

    Raises MissingDependency without PyTorch.
    """
    read_bytes, macs = probe(on_cpu=device != "gpu", seconds=seconds)
    return Roofs(device, 1, read_bytes, macs, macs)


def available_isas() -> list[str]:
    """Return the instruction sets that run here, slowest first. Raises MissingDependency without the compiled part."""
    try:
        import camelid.backends.cpu._native as native
    except ImportError as error:
        raise MissingDependency(
            f"the compiled part of Camelid cannot be loaded: {error}",
            hint="install camelid again, with a C++ compiler at hand",
        ) from error
    return native.available_isas()


def usual_isa(settings: ModelSettings) -> str:
    """Return the instruction set that the cpu backend takes with these settings. Raises InvalidSetting."""
    isas = available_isas()
    isa = settings.cpu_isa or isas[-1]
    if isa not in isas:
        raise InvalidSetting(f"cpu_isa must be one of {', '.join(isas)} on this machine, got {isa!r}")
    return isa


def usual_threads(settings: ModelSettings) -> int:
    """Return the number of threads that the cpu backend takes with these settings."""
    return settings.threads or machine.default_threads()
