"""Which GPUs this machine has and how much of their memory is free, asked of the driver itself.

PyTorch would take seconds and a piece of the GPU's memory to tell the same, and the process that asks, the front, never
computes. NVIDIA's management library is asked through ctypes, AMD's driver through its files.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVML = "libnvidia-ml.so.1"
NAME_BYTES = 96
UUID_BYTES = 96
ROOT = Path("/")


@dataclass(frozen=True)
class Gpu:
    """One GPU. `capability` is (major, minor) of NVIDIA's, None where there is no such number."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None = None
    uuid: str = ""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def gpus(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> list[Gpu]:
    """Return the GPUs that this process may use, in the order in which PyTorch counts them."""
    found = _nvidia()
    if found:
        return visible(found, environment.get("CUDA_VISIBLE_DEVICES"))
    return visible(_amd(root), environment.get("HIP_VISIBLE_DEVICES"))


def visible(found: Sequence[Gpu], chosen: str | None) -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, by number or by the beginning of their UUID.

    As CUDA does, stop at the first name that is none.
    """
    if chosen is None:
        return list(found)
    kept: list[Gpu] = []
    for name in (word.strip() for word in chosen.split(",")):
        if name.isdigit() and int(name) < len(found):
            kept.append(found[int(name)])
            continue
        named = [gpu for gpu in found if name.startswith("GPU-") and gpu.uuid.startswith(name)]
        if len(named) != 1:
            break
        kept += named
    return kept


def _nvidia() -> list[Gpu]:
    try:
        library = ctypes.CDLL(NVML)
    except OSError:
        return []
    return ask_nvml(library)


def ask_nvml(library: Any) -> list[Gpu]:
    """Return what NVIDIA's management library knows; nothing where it does not answer.

    Source: NVML API reference, nvml.h.
    """
    count = ctypes.c_uint()
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    try:
        return [gpu for index in range(count.value) if (gpu := _ask_one(library, index)) is not None]
    finally:
        library.nvmlShutdown()


def _ask_one(library: Any, index: int) -> Gpu | None:
    device, memory = ctypes.c_void_p(), _Memory()
    name, uuid = ctypes.create_string_buffer(NAME_BYTES), ctypes.create_string_buffer(UUID_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    asked = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device))
    if asked or library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
        return None
    library.nvmlDeviceGetName(device, name, ctypes.c_uint(NAME_BYTES))
    library.nvmlDeviceGetUUID(device, uuid, ctypes.c_uint(UUID_BYTES))
    library.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor))
    capability = (major.value, minor.value)
    return Gpu(name.value.decode(), memory.total, memory.free, capability, uuid.value.decode())


def _amd(root: Path) -> list[Gpu]:
    """Return AMD's GPUs. Source: the Linux kernel's documentation of amdgpu, mem_info_vram_*."""
    found = []
    for total in sorted(root.glob("sys/class/drm/card[0-9]*/device/mem_info_vram_total")):
        used = total.with_name("mem_info_vram_used")
        try:
            size = int(total.read_text())
            found.append(Gpu("AMD GPU", size, size - int(used.read_text())))
        except (OSError, ValueError):
            continue
    return found
