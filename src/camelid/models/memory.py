"""How much memory a model takes, as numbers to reason with before anything is allocated.

Nothing is measured here: what is free is the backend's word, and what to do about too little is decided above.
"""

from __future__ import annotations

from dataclasses import dataclass

from camelid.backends.base import PAGE_TOKENS, CacheType, Measured, Part
from camelid.formats.checkpoint import Checkpoint

from .load import used_tensors
from .rope import attention_spec
from .sharding import Share, check_ranks, local_spec, part_of
from .spec import ModelSpec


@dataclass(frozen=True)
class MemoryNeed:
    """What a model needs: its weights once, and pages for every token that is kept."""

    weight_bytes: int
    page_bytes: int  # PAGE_TOKENS tokens over all layers; 0 for a model that keeps nothing

    @property
    def bytes_per_token(self) -> int:
        """Return the cache's growth with each token kept."""
        return self.page_bytes // PAGE_TOKENS

    def total_bytes(self, context_length: int, num_sequences: int = 1) -> int:
        """Return weights and cache for so many sequences of that length."""
        return self.weight_bytes + num_sequences * num_pages(context_length) * self.page_bytes

    def longest_context(self, available_bytes: int, num_sequences: int = 1) -> int:
        """Return how many tokens each of the sequences can have within `available_bytes`; 0 when not even one page each
        fits.
        """
        spare_bytes = max(0, available_bytes - self.weight_bytes)
        return spare_bytes // (self.page_bytes * num_sequences) * PAGE_TOKENS


def memory_need(
    checkpoint: Checkpoint, spec: ModelSpec, backend: Measured, cache_type: CacheType, ranks: int = 1
) -> MemoryNeed:
    """Return what `checkpoint` takes on `backend`, counting its weights as they lie in the file.

    Of several ranks, what the first takes, which is no less than the others. Raises InvalidSetting for a number of
    ranks that the model cannot be shared out to.
    """
    check_ranks(spec, ranks)
    share = Share(0, ranks)
    weight_bytes = sum(
        _part_bytes(checkpoint.tensors[name].size_bytes, part_of(spec, slot.weight, share))
        for name, slot in used_tensors(checkpoint, spec).items()
    )
    if spec.encoder is not None:
        return MemoryNeed(weight_bytes, 0)
    return MemoryNeed(weight_bytes, backend.page_bytes(attention_spec(local_spec(spec, ranks)), cache_type))


def _part_bytes(size_bytes: int, part: Part | None) -> int:
    return size_bytes if part is None else size_bytes * (part.stop - part.start) // part.whole


def num_pages(num_tokens: int) -> int:
    """Return how many pages hold so many tokens of one sequence."""
    return -(-num_tokens // PAGE_TOKENS)
