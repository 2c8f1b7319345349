"""The probes, the roofs made of them, and the work that is held against them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from camelid.backends.cpu import _native as native
from camelid.bench.roofline import measure_roofline
from camelid.bench.roofs import Roofs, available_isas, middle, usual_isa
from camelid.bench.work import work_of
from camelid.errors import InvalidSetting
from camelid.formats import open_checkpoint
from camelid.models.load import read_spec
from camelid.models.synth import write_synthetic
from camelid.settings import ModelSettings

SLOWEST = 1e6  # a second; a thread that the system stops for a second in these 5 ms still does more
ROOFS = Roofs("avx2", 2, read_bytes=1e9, int8_macs=1e11, fp32_macs=1e10)


@pytest.mark.parametrize("isa", available_isas())
def test_every_instruction_set_of_this_machine_can_be_probed(isa: str) -> None:
    kinds = {kind for of_isa, kind, _ in native.arithmetic_probes() if of_isa == isa}
    assert kinds == {"int8", "fp32"}
    for kind in kinds:
        assert native.probe_arithmetic(isa, kind, 1, 0.005) > SLOWEST
    for ahead in (0, 1024):
        assert native.probe_reading(isa, 2, 1 << 20, ahead, 0.005) > SLOWEST


@pytest.mark.parametrize(
    "arguments",
    [
        ("sse9", "int8", 1, 0.01),
        ("portable", "int4", 1, 0.01),
        ("portable", "int8", 0, 0.01),
        ("portable", "int8", 1, math.nan),
    ],
)
def test_impossible_arithmetic_probes_are_refused(arguments: tuple[str, str, int, float]) -> None:
    with pytest.raises(ValueError, match=r"isa|probe|threads|seconds"):
        native.probe_arithmetic(*arguments)


@pytest.mark.parametrize("arguments", [("portable", 1, 100, 0, 0.01), ("portable", 1, 1 << 20, -1, 0.01)])
def test_impossible_reading_probes_are_refused(arguments: tuple[str, int, int, int, float]) -> None:
    with pytest.raises(ValueError, match=r"bytes|ahead"):
        native.probe_reading(*arguments)


def test_roofs_of_several_probes_are_their_medians() -> None:
    others = [Roofs("avx2", 2, 3e9, 1e11, 1e10), Roofs("avx2", 2, 2e9, 9e11, 1e10)]
    assert middle([ROOFS, *others]) == Roofs("avx2", 2, 2e9, 1e11, 1e10)


def test_an_instruction_set_that_the_machine_lacks_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="cpu_isa must be one of"):
        usual_isa(ModelSettings(cpu_isa="sse9"))


def test_the_roofline_has_a_row_for_each_probe_and_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camelid.bench.roofline.READ_BYTES", 1 << 20)
    rows = measure_roofline(ModelSettings(threads=2), runs=1, seconds=0.002).rows
    arithmetic = sum(isa in available_isas() for isa, _, _ in native.arithmetic_probes())
    assert len(rows) == 2 * 3 + 2 * arithmetic
    assert all(0 < (next(iter(row.measures.values())).of_roof or 0) <= 1 for row in rows)


@pytest.mark.parametrize("quant", ["Q4_K_M", "F16"])
def test_work_is_counted_from_the_shapes(tmp_path: Path, quant: str) -> None:
    file = tmp_path / "tiny.gguf"
    write_synthetic(file, "tiny", quant)
    work = work_of(str(file), cache_bytes=512)
    with open_checkpoint(file) as checkpoint:
        spec = read_spec(checkpoint)
        size = sum(info.size_bytes for name, info in checkpoint.tensors.items() if name != "rope_freqs.weight")
    heads = spec.num_heads + 2 * spec.num_kv_heads
    layer = spec.dim * (heads * spec.head_dim + spec.num_heads * spec.head_dim + 3 * spec.ffn_dim)
    macs = spec.num_layers * layer
    assert (work.int8_macs, work.fp32_macs) == ((0, macs) if quant == "F16" else (macs, 0))
    assert (work.weight_bytes, work.head_macs) == (size, spec.vocab_size * spec.dim)
    assert work.is_float_head == (quant == "F16")


def test_a_step_takes_at_least_the_slower_of_its_two_roofs(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write_synthetic(file, "tiny", "Q4_K_M")
    work = work_of(str(file), cache_bytes=512)
    assert work.decode_seconds(ROOFS, 1, 0) == work.weight_bytes / ROOFS.read_bytes
    assert work.decode_seconds(ROOFS, 1, 1000) == (work.weight_bytes + 512_000) / ROOFS.read_bytes
    many = work.decode_seconds(ROOFS, 1000, 0)
    assert many == pytest.approx(1000 * (work.int8_macs + work.head_macs) / ROOFS.int8_macs)
    pairs = 512 * 513 // 2
    macs = 512 * work.int8_macs + pairs * work.score_macs + work.head_macs
    assert work.prefill_seconds(ROOFS, 512) == pytest.approx(macs / ROOFS.int8_macs)
