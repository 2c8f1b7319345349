"""What a model needs is known before anything is allocated."""

from __future__ import annotations

from tiny_models import MemoryCheckpoint, gguf_arrays, gguf_metadata

from camelid.backends.base import CacheType
from camelid.backends.reference import ReferenceBackend
from camelid.models.load import read_spec
from camelid.models.memory import MemoryNeed, memory_need


def test_need_counts_every_tensor_once_and_pages_over_all_layers() -> None:
    arrays = gguf_arrays()
    checkpoint = MemoryCheckpoint(gguf_metadata(), arrays)

    need = memory_need(checkpoint, read_spec(checkpoint), ReferenceBackend(), CacheType.F16)

    num_weights = sum(values.size for values in arrays.values())
    assert need == MemoryNeed(weight_bytes=4 * num_weights, page_bytes=2 * 2 * 32 * (2 * 8) * 2)
    assert need.bytes_per_token == 128


def test_need_grows_by_whole_pages() -> None:
    need = MemoryNeed(weight_bytes=1000, page_bytes=320)

    assert need.total_bytes(1) == 1320
    assert need.total_bytes(32) == 1320
    assert need.total_bytes(33) == 1640
    assert need.total_bytes(33, num_sequences=3) == 2920


def test_longest_context_is_the_most_that_fits() -> None:
    need = MemoryNeed(weight_bytes=1000, page_bytes=320)

    assert need.longest_context(999) == 0
    assert need.longest_context(1319) == 0
    assert need.longest_context(1640) == 64
    assert need.longest_context(1640, num_sequences=2) == 32
