"""What is known of GPUs without PyTorch: the driver's word, and what follows from it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from camelid.backends import auto
from camelid.backends.gpu import opening
from camelid.backends.gpu.driver import Gpu, ask_nvml, gpus, visible
from camelid.backends.gpu.opening import RESERVED_BYTES, GpuSurvey, survey_gpus, why_not
from camelid.errors import InvalidSetting, MissingDependency
from camelid.settings import ModelSettings

GIB = 2**30
H100 = Gpu("NVIDIA H100", 80 * GIB, 79 * GIB, (9, 0), "GPU-aaaa")
BUSY = Gpu("NVIDIA H100", 80 * GIB, 20 * GIB, (9, 0), "GPU-abbb")
OLD = Gpu("Tesla V100", 16 * GIB, 16 * GIB, (7, 0), "GPU-cccc")


class FakeNvml:
    """The functions of NVIDIA's management library, for some GPUs."""

    def __init__(self, found: list[Gpu]) -> None:
        self._found, self.is_open = found, False

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.is_open = True
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.is_open = False
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._found)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:  # noqa: N802
        device._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:  # noqa: N802
        gpu = self._found[device.value - 1]
        memory._obj.total, memory._obj.free = gpu.total_bytes, gpu.free_bytes
        return 0

    def nvmlDeviceGetName(self, device: Any, name: Any, size: Any) -> int:  # noqa: N802
        name.value = self._found[device.value - 1].name.encode()
        return 0

    def nvmlDeviceGetUUID(self, device: Any, uuid: Any, size: Any) -> int:  # noqa: N802
        uuid.value = self._found[device.value - 1].uuid.encode()
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:  # noqa: N802
        major._obj.value, minor._obj.value = self._found[device.value - 1].capability
        return 0


def test_the_driver_is_asked_for_names_memory_and_capability() -> None:
    library = FakeNvml([H100, OLD])
    assert ask_nvml(library) == [H100, OLD]
    assert not library.is_open


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [(None, [H100, BUSY, OLD]), ("1,0", [BUSY, H100]), ("GPU-c", [OLD]), ("GPU-a", []), ("", []), ("0,9,1", [H100])],
)
def test_only_gpus_that_cuda_would_see_are_counted(chosen: str | None, expected: list[Gpu]) -> None:
    assert visible([H100, BUSY, OLD], chosen) == expected


def test_amds_driver_is_read_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/drm/card0/device"
    folder.mkdir(parents=True)
    (folder / "mem_info_vram_total").write_text("17179869184\n")
    (folder / "mem_info_vram_used").write_text("1073741824\n")
    assert gpus({}, tmp_path) == [Gpu("AMD GPU", 16 * GIB, 15 * GIB)]


def test_what_a_rank_may_take_is_what_the_fullest_gpu_leaves() -> None:
    assert GpuSurvey((H100, BUSY)).memory().available_bytes == 20 * GIB - RESERVED_BYTES
    assert GpuSurvey((H100,), most_bytes=8 * GIB).memory().available_bytes == 8 * GIB


def test_gpus_that_will_not_do_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not([H100], 1) is None
    assert why_not([OLD], 1) == "Tesla V100 has compute capability 7.0, and 8.0 is the least"
    monkeypatch.setattr(opening, "gpus", lambda: [H100])
    with pytest.raises(InvalidSetting, match="2 are asked for and 1 are there"):
        survey_gpus(2, None)
    monkeypatch.setattr(opening, "gpus", list)
    with pytest.raises(MissingDependency, match="no GPU"):
        survey_gpus(1, None)
    with pytest.raises(InvalidSetting, match="needs GPUs"):
        auto.devices(ModelSettings(device="cpu", tensor_parallel=2))


def test_a_front_reckons_with_a_gpu_and_does_not_import_pytorch() -> None:
    code = """
import sys
from camelid.backends.gpu import opening
from camelid.backends.gpu.driver import Gpu
opening.gpus = lambda: [Gpu("NVIDIA H100", 80 << 30, 79 << 30, (9, 0))]
from camelid.runtime.loading import describe
from camelid.settings import ModelSettings
description = describe("cria", ModelSettings(device="auto"))
assert description.settings.device == "gpu", description.settings.device
assert description.sizing.context_length > 0
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_structures_have_the_size_that_the_library_writes() -> None:
    from camelid.backends.gpu.driver import _Memory

    assert ctypes.sizeof(_Memory) == 24
