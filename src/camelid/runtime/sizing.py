"""How long a context and how many pages a model gets: chosen from what it needs, what is free and what was asked for.

Plain arithmetic, done before anything is allocated; nothing here measures or opens. Pages are memory that the system
hands out when it is first touched, so a generous number costs nothing until it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from camelid.backends.base import PAGE_TOKENS
from camelid.errors import InvalidSetting, OutOfMemory
from camelid.models.memory import MemoryNeed, num_pages
from camelid.settings import ModelSettings

CACHE_SHARE = 4  # the cache gets one part in so many of what is free after the weights: other programs live here too
SHORTEST_CONTEXT = 512  # tokens; with fewer a model is of no use, and it is better to say so


@dataclass(frozen=True)
class Sizing:
    """What was chosen. `memory_bytes` is what weights and cache take when every page is used."""

    context_length: int
    num_pages: int
    memory_bytes: int


def choose_sizing(need: MemoryNeed, available_bytes: int, trained_context: int, settings: ModelSettings) -> Sizing:
    """Choose context length and pages.

    Raises InvalidSetting for a context longer than the model was trained for, and OutOfMemory, with what is needed and
    what would fit, when weights and one context do not fit.
    """
    free_bytes = available_bytes - need.weight_bytes
    trained_context = min(trained_context, settings.max_seq_len or trained_context)
    if need.page_bytes == 0:
        return _without_cache(need, available_bytes, trained_context, settings)
    share = 1 if settings.device == "gpu" else CACHE_SHARE  # nothing else is meant to live on a GPU
    budget_bytes = max(free_bytes, 0) // share if settings.cache_memory is None else settings.cache_memory
    context_length = _context_length(need, budget_bytes, trained_context, settings)
    pages_of_one = num_pages(context_length)
    if settings.context_length is not None and settings.cache_memory is None:
        budget_bytes = max(
            budget_bytes, pages_of_one * need.page_bytes
        )  # what was asked for may take more than a share
    cache_bytes = pages_of_one * need.page_bytes
    if cache_bytes > min(budget_bytes, free_bytes):
        raise _does_not_fit(need, available_bytes, min(budget_bytes, free_bytes), context_length)
    pages = min(budget_bytes // need.page_bytes, free_bytes // need.page_bytes, settings.max_sequences * pages_of_one)
    return Sizing(context_length, pages, need.weight_bytes + pages * need.page_bytes)


def _without_cache(need: MemoryNeed, available_bytes: int, trained_context: int, settings: ModelSettings) -> Sizing:
    """Size a model that keeps nothing: a context that was asked for, for others perhaps, only shortens its own."""
    if need.weight_bytes > available_bytes:
        raise OutOfMemory(
            f"the model needs {_size(need.weight_bytes)} for its weights; {_size(available_bytes)} are free",
            hint="use a smaller model or a smaller quantization of it",
        )
    return Sizing(min(settings.context_length or trained_context, trained_context), 0, need.weight_bytes)


def _context_length(need: MemoryNeed, budget_bytes: int, trained_context: int, settings: ModelSettings) -> int:
    if settings.context_length is None:
        fits = budget_bytes // need.page_bytes * PAGE_TOKENS
        return min(trained_context, max(fits, SHORTEST_CONTEXT))
    if settings.context_length > trained_context:
        raise InvalidSetting(
            f"context_length must be 1–{trained_context} for this model, got {settings.context_length}",
            hint=f"leave it out, or give at most --context-length {trained_context}",
        )
    return settings.context_length


def _does_not_fit(need: MemoryNeed, available_bytes: int, cache_room_bytes: int, context_length: int) -> OutOfMemory:
    cache_bytes = num_pages(context_length) * need.page_bytes
    fits = cache_room_bytes // need.page_bytes * PAGE_TOKENS
    hint = f"--context-length {fits} would fit" if fits > 0 else "use a smaller model or a smaller quantization of it"
    return OutOfMemory(
        f"the model needs {_size(need.weight_bytes)} for its weights and {_size(cache_bytes)} for a context of "
        f"{context_length} tokens; {_size(available_bytes)} are free, of which {_size(max(cache_room_bytes, 0))} may "
        "go to the cache",
        hint=hint,
    )


def _size(size_bytes: int) -> str:
    """Write a size with the unit that leaves one to three digits before the point."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
