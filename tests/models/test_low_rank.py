"""Adapters beside the weights: what they compute is what merged weights compute, for each row of a mixed batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.lora import random_pairs, spec_of, write_gguf_lora
from tests.models.tiny_models import all_logits, batch_of, relative_rms

from camelid.backends.base import Backend, CacheType
from camelid.backends.gpu.backend import GpuBackend
from camelid.backends.reference import ReferenceBackend
from camelid.errors import ModelError
from camelid.formats import Checkpoint, open_checkpoint
from camelid.models.adapters import open_adapted
from camelid.models.load import Model, load_model
from camelid.models.lora import TARGETS, open_lora
from camelid.models.low_rank import Adapters
from camelid.models.placing_adapters import adapter_bytes, place_adapter
from camelid.models.rope import attention_spec
from camelid.models.spec import Weight
from camelid.models.synth import write_synthetic

IDS = [3, 14, 15, 92, 65, 35, 89, 79, 32]


def backends() -> list[tuple[str, Callable[[], Backend]]]:
    found: list[tuple[str, Callable[[], Backend]]] = [
        ("reference", ReferenceBackend),
        ("gpu-twin", partial(GpuBackend, torch.device("cpu"), torch.float32)),
    ]
    try:
        from camelid.backends.cpu.backend import CpuBackend
    except ImportError:
        return found
    return [*found, ("cpu", partial(CpuBackend, threads=2))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a base in F32 and in Q4_K_M, and two adapters, the second of which changes the head too."""
    folder = tmp_path_factory.mktemp("lora")
    for quant in ("F32", "Q4_K_M"):
        write_synthetic(folder / f"{quant}.gguf", "tiny", quant, num_layers=2)
    spec = spec_of(folder / "F32.gguf")
    write_gguf_lora(folder / "one.gguf", random_pairs(spec, 1, rank=3))
    pairs = random_pairs(spec, 2, rank=16, spread=0.05, weights=(Weight.VALUE, Weight.DOWN))
    head = random_pairs(replace(spec, num_layers=1), 3, rank=5, weights=(Weight.HEAD,))
    write_gguf_lora(folder / "two.gguf", {**pairs, **head})
    return {path.stem: path for path in folder.iterdir()}


def load(checkpoint: Checkpoint, backend: Backend, *paths: Path) -> Model:
    """Return a model whose adapters have the numbers 1, 2 …"""
    table = Adapters()
    model = load_model(checkpoint, backend, table)
    for number, path in enumerate(paths, 1):
        with open_lora(path) as adapter:
            table.placed[number] = place_adapter(adapter, checkpoint, model.spec, backend)
    return model


def adapted(model: Model, backend: Backend, numbers: list[int], chunk: int = 99) -> NDArray[np.float64]:
    """Return the logits of sequences of IDS that use the adapters `numbers`, in one batch: (S, T, V)."""
    backend.open_pages(attention_spec(model.spec), CacheType.F32, len(numbers))
    parts = []
    for start in range(0, len(IDS), chunk):
        ids = IDS[start : start + chunk]
        batch = batch_of([(ids, start, [page]) for page in range(len(numbers))])
        batch = replace(batch, adapters=np.array(numbers, np.int32))
        parts.append(np.array(backend.run(model, batch)).reshape(len(numbers), len(ids), -1))
    return np.concatenate(parts, axis=1).astype(np.float64)


@pytest.mark.parametrize(("name", "make"), backends(), ids=[name for name, _ in backends()])
def test_each_row_is_computed_as_if_its_adapter_were_merged(
    name: str, make: Callable[[], Backend], files: dict[str, Path]
) -> None:
    with open_checkpoint(files["F32"]) as checkpoint:
        backend = make()
        found = adapted(load(checkpoint, backend, files["one"], files["two"]), backend, [1, 0, 2, 1])
    for row, merged in ((0, ["one"]), (1, []), (3, ["one"])):
        with open_adapted(files["F32"], [files[one] for one in merged]) as checkpoint:
            backend = make()
            expected = all_logits(load_model(checkpoint, backend), backend, IDS)

        assert relative_rms(found[row], expected) < (1e-6 if name == "reference" else 1e-5)
    with open_checkpoint(files["F32"]) as checkpoint:
        truth = ReferenceBackend()
        expected = adapted(load(checkpoint, truth, files["one"], files["two"]), truth, [2])
    assert relative_rms(found[2], expected[0]) < 1e-5
    assert relative_rms(found[2], found[1]) > 0.01


def test_quantized_weights_with_an_adapter_stay_within_the_error_of_quantized_weights(files: dict[str, Path]) -> None:
    cpu = backends()[-1]
    if cpu[0] != "cpu":
        pytest.skip("the extension of the cpu backend is not built here")
    found = {}
    for name, make in (backends()[0], cpu):
        with open_checkpoint(files["Q4_K_M"]) as checkpoint:
            backend = make()
            found[name] = adapted(load(checkpoint, backend, files["one"]), backend, [1, 0])
    errors = [relative_rms(found["cpu"][row], found["reference"][row]) for row in (0, 1)]
    assert errors[0] < max(1.5 * errors[1], 1e-2)


def test_a_row_is_the_same_to_the_bit_whatever_the_batch_and_the_threads(files: dict[str, Path]) -> None:
    if backends()[-1][0] != "cpu":
        pytest.skip("the extension of the cpu backend is not built here")
    from camelid.backends.cpu._native import available_isas
    from camelid.backends.cpu.backend import CpuBackend

    places = [(isa, threads) for isa in available_isas() for threads in (1, 2) if (isa, threads) != ("portable", 2)]
    found = set()
    with open_checkpoint(files["Q4_K_M"]) as checkpoint:
        for isa, threads in places:
            backend = CpuBackend(threads=threads, isa=isa)
            model = load(checkpoint, backend, files["one"], files["two"])
            for numbers, chunk in (([1], 99), ([0, 2, 1, 1], 2)):
                rows = adapted(model, backend, numbers, chunk)
                found.add(rows[numbers.index(1)].tobytes())
    assert len(found) == 1


def test_memory_is_told_before_an_adapter_is_placed(files: dict[str, Path]) -> None:
    spec = spec_of(files["F32"])
    for quant, width in (("F32", 4), ("Q4_K_M", 2)):
        with open_checkpoint(files[quant]) as checkpoint, open_lora(files["one"]) as adapter:
            assert adapter_bytes(adapter, checkpoint, spec) == width * adapter.num_weights
            assert len(adapter.pairs) == spec.num_layers * len(TARGETS)


def test_numbers_that_are_not_finite_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    spec = spec_of(files["F32"])
    pairs = dict(random_pairs(spec, weights=(Weight.QUERY,)))
    pairs[Weight.QUERY, 1][1][3, 2] = np.inf
    path = write_gguf_lora(tmp_path / "broken.gguf", pairs)
    with (
        open_checkpoint(files["F32"]) as checkpoint,
        open_lora(path) as adapter,
        pytest.raises(ModelError, match="the change of query 1 has numbers that are not finite"),
    ):
        place_adapter(adapter, checkpoint, spec, ReferenceBackend())
