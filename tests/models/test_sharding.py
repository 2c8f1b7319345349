"""Models shared out to ranks: what each has, and that together they say what one says.

Ranks are threads here, and meet at a barrier; real processes are in tests/runtime/test_ranks.py.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from llama_checkpoints import BASE, CONFIGS
from tiny_models import MemoryCheckpoint

from camelid.backends.base import Axis, Batch, CacheType, Part
from camelid.backends.gpu.backend import GpuBackend
from camelid.errors import InvalidSetting
from camelid.formats import Checkpoint, decode, open_checkpoint
from camelid.models.convert import Companions, convert
from camelid.models.load import load_model, read_spec, used_tensors
from camelid.models.memory import memory_need
from camelid.models.names import Naming, tensor_name
from camelid.models.rope import attention_spec
from camelid.models.shapes import SHAPES, shape_spec
from camelid.models.sharding import RANKS, Share, local_spec, part_of, read_part
from camelid.models.spec import Weight
from camelid.models.synth import write_synthetic
from camelid.models.weights import LAYER_WEIGHTS, all_slots, weight_shape

MATRICES = [weight for weight in (*LAYER_WEIGHTS, Weight.EMBEDDING, Weight.HEAD) if "norm" not in weight.value]


class ThreadGroup:
    """Ranks in threads of one process. Sums are taken in the order of ranks, so that all have the same bits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size)
        self.slots: list[torch.Tensor] = [torch.empty(0)] * size

    def all_of(self, rank: int, x: torch.Tensor) -> list[torch.Tensor]:
        self.slots[rank] = x
        self.barrier.wait(30)
        found = list(self.slots)
        self.barrier.wait(30)
        return found


class OneOf:
    """One rank of a ThreadGroup."""

    def __init__(self, group: ThreadGroup, rank: int) -> None:
        self.size, self._group, self._rank = group.size, group, rank

    def total(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._group.all_of(self._rank, x)).sum(0)

    def joined(self, x: torch.Tensor, whole: int) -> torch.Tensor:
        joined = torch.cat(self._group.all_of(self._rank, x), dim=1)
        assert joined.shape[1] == whole
        return joined


def logits_of(checkpoint: Checkpoint, ranks: int) -> list[np.ndarray]:
    """Return what each rank computes for a prompt and a token behind it."""
    group = ThreadGroup(ranks)

    def one(rank: int) -> np.ndarray:
        backend = GpuBackend(torch.device("cpu"), torch.float32, group=OneOf(group, rank))
        model = load_model(checkpoint, backend, share=Share(rank, ranks))
        backend.open_pages(attention_spec(local_spec(model.spec, ranks)), CacheType.F32, 3)
        rows = [backend.run(model, _batch(range(2, 40), 0)), backend.run(model, _batch(range(5, 6), 38))]
        return np.concatenate(rows)

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(one, range(ranks)))


def _batch(ids: range, first: int) -> Batch:
    count = len(ids)
    return Batch(
        ids=np.array(ids, np.int32),
        positions=np.arange(first, first + count, dtype=np.int32),
        row_starts=np.array([0, count], np.int32),
        page_table=np.array([[2, 0]], np.int32),
        wanted=np.array([0, count - 1], np.int32),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_parts_of_all_ranks_are_the_whole_and_nothing_twice(shape: str) -> None:
    spec = shape_spec(shape)
    for ranks in (ranks for ranks in RANKS[1:] if spec.num_heads % ranks == 0):
        for weight in MATRICES:
            parts = [part_of(spec, weight, Share(rank, ranks)) for rank in range(ranks)]
            copies = max(1, ranks // spec.num_kv_heads) if weight in (Weight.KEY, Weight.VALUE) else 1
            ends = [end for part in parts[::copies] if part for end in (part.start, part.stop)]
            assert (ends[0], ends[-1]) == (0, weight_shape(spec, weight)[parts[0].axis.value if parts[0] else 0])
            assert ends[1:-1:2] == ends[2::2]


def test_a_block_is_cut_by_no_part_of_published_models() -> None:
    for shape in ("1b", "3b", "8b", "70b", "405b"):
        spec = shape_spec(shape)
        for ranks in (ranks for ranks in RANKS[1:] if spec.num_heads % ranks == 0):
            for weight in (Weight.DOWN, Weight.ATTENTION_OUT):
                part = part_of(spec, weight, Share(1, ranks))
                assert part is not None
                assert (part.start % 256, part.stop % 256) == (0, 0) or shape == "3b", (shape, ranks)


@pytest.mark.parametrize(("quantization", "ranks"), [("Q4_K_M", 2), ("Q8_0", 4), ("F16", 4)])
def test_ranks_say_what_one_says(tmp_path: Path, quantization: str, ranks: int) -> None:
    """Two key/value heads, so that four ranks have each of them twice; parts of 64 columns cut blocks of 256."""
    path = tmp_path / "tiny.gguf"
    write_synthetic(path, "tiny", quantization, seed=3, num_layers=2)
    with open_checkpoint(path) as checkpoint:
        (alone,) = logits_of(checkpoint, 1)
        found = logits_of(checkpoint, ranks)
        for rows in found:
            np.testing.assert_allclose(rows, alone, atol=3e-3 if quantization == "Q4_K_M" else 1e-4)
            np.testing.assert_array_equal(rows.argmax(1), alone.argmax(1))


@pytest.mark.parametrize("name", ["biases everywhere", "a key/value head for each query head", "tied head"])
def test_every_kind_of_llama_is_shared_out(name: str) -> None:
    """A vocabulary of 97 tokens and a width of 112 columns are not multiples of the ranks."""
    config = {**BASE, **CONFIGS[name], "num_hidden_layers": 2, "model_type": "llama", "rms_norm_eps": 1e-5}
    spec = read_spec(MemoryCheckpoint(config, {}))
    draw = np.random.default_rng(1)
    weights = {
        tensor_name(Naming.HUGGING_FACE, slot.weight, slot.layer, is_bias=slot.is_bias): draw.normal(
            len(slot.shape) == 1, 0.15, slot.shape
        ).astype(np.float32)
        for slot in all_slots(spec)
    }
    checkpoint = MemoryCheckpoint(config, weights)
    (alone,) = logits_of(checkpoint, 1)
    for rows in logits_of(checkpoint, 4):
        np.testing.assert_allclose(rows, alone, atol=1e-4)


def test_metas_files_serve_any_number_of_ranks(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_synthetic(source, "tiny", "F16", seed=4, num_layers=1)
    with open_checkpoint(source) as checkpoint:
        for files in (1, 2):
            convert(checkpoint, tmp_path / str(files), Naming.META, Companions({}, {}), num_files=files)
    with open_checkpoint(tmp_path / "1") as meta:
        (alone,) = logits_of(meta, 1)
    for files, ranks in ((1, 2), (2, 1), (2, 2), (2, 4)):
        with open_checkpoint(tmp_path / str(files)) as meta:
            for rows in logits_of(meta, ranks):
                np.testing.assert_allclose(rows, alone, atol=1e-4)


def test_only_the_files_with_a_part_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "tiny.gguf"
    write_synthetic(source, "tiny", "F16", seed=4, num_layers=1)
    with open_checkpoint(source) as checkpoint:
        convert(checkpoint, tmp_path / "two", Naming.META, Companions({}, {}), num_files=2)
    from camelid.formats.pth import PthCheckpoint

    read: list[str] = []
    raw = PthCheckpoint.raw
    monkeypatch.setattr(PthCheckpoint, "raw", lambda self, name: (read.append(self.path.name), raw(self, name))[1])
    with open_checkpoint(tmp_path / "two") as meta:
        name = "layers.0.feed_forward.w2.weight"
        shard = read_part(meta, name, Part(Axis.COLUMNS, 384, 768, 768))
        assert set(read) == {"consolidated.01.pth"}
        np.testing.assert_array_equal(shard.rows, meta.raw(name)[:, 768:])


def test_columns_that_cut_blocks_keep_their_numbers() -> None:
    weights = np.random.default_rng(0).standard_normal((6, 512)).astype(np.float32)
    checkpoint = MemoryCheckpoint({}, {"w": weights})
    whole = decode(checkpoint.raw("w"), checkpoint.tensors["w"].block_type)
    shard = read_part(checkpoint, "w", Part(Axis.COLUMNS, 64, 192, 512))
    np.testing.assert_array_equal(decode(shard.rows, shard.block_type), whole[:, 64:192])


def test_a_number_of_ranks_that_does_not_divide_the_heads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_synthetic(path, "tiny", "F16", num_layers=1)
    with open_checkpoint(path) as checkpoint, pytest.raises(InvalidSetting, match="4 heads"):
        load_model(checkpoint, GpuBackend(torch.device("cpu"), torch.float32), share=Share(0, 8))


def test_a_rank_needs_its_part_of_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_synthetic(path, "tiny", "F16", num_layers=2)
    backend = GpuBackend(torch.device("cpu"), torch.float32)
    with open_checkpoint(path) as checkpoint:
        spec = read_spec(checkpoint)
        one, two = (memory_need(checkpoint, spec, backend, CacheType.F16, ranks) for ranks in (1, 2))
        parts = [
            read_part(checkpoint, name, part_of(spec, slot.weight, Share(0, 2))).rows.nbytes
            for name, slot in used_tensors(checkpoint, spec).items()
        ]
    assert two.page_bytes == one.page_bytes // 2
    assert two.weight_bytes == sum(parts) < one.weight_bytes
