"""How much memory a model takes, as numbers to reason with before anything is allocated.

Nothing is measured here: what is free is the backend's word, and what to do about too little is decided above.
"""

from __future__ import annotations

from dataclasses import dataclass

from camelid.backends.base import PAGE_TOKENS, Backend, CacheType
from camelid.formats.checkpoint import Checkpoint

from .load import used_tensors
from .rope import attention_spec
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


def memory_need(checkpoint: Checkpoint, spec: ModelSpec, backend: Backend, cache_type: CacheType) -> MemoryNeed:
    """Return what `checkpoint` takes on `backend`, counting its weights as they lie in the file."""
    weight_bytes = sum(checkpoint.tensors[name].size_bytes for name in used_tensors(checkpoint, spec))
    if spec.encoder is not None:
        return MemoryNeed(weight_bytes, 0)
    return MemoryNeed(weight_bytes, backend.page_bytes(attention_spec(spec), cache_type))


def num_pages(num_tokens: int) -> int:
    """Return how many pages hold so many tokens of one sequence."""
    return -(-num_tokens // PAGE_TOKENS)
