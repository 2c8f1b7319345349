"""The numbers that an engine works within."""

from __future__ import annotations

from dataclasses import dataclass

from camelid.backends.base import PAGE_TOKENS
from camelid.errors import InvalidSetting


@dataclass(frozen=True)
class EngineSettings:
    """Limits of one engine, checked when they are made."""

    vocabulary_size: int  # ids at or above it have no embedding
    context_length: int  # most tokens of prompt and answer together
    num_pages: int  # of PAGE_TOKENS positions, for all sequences together; the backend has opened so many
    max_batch_tokens: int = (
        256  # per step; decodes come first, prompts get the rest, so it bounds how long a decode waits
    )
    max_sequences: int = 16  # that run at the same time
    max_waiting: int = 256  # that wait for a place; more are refused
    max_guessed: int = 0  # tokens of one sequence that prompt lookup guesses in a step; 0 switches it off

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "context_length", "num_pages", "max_batch_tokens", "max_sequences"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("max_waiting", "max_guessed"):
            if getattr(self, name) < 0:
                raise InvalidSetting(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.num_pages * PAGE_TOKENS < self.context_length:
            raise InvalidSetting(
                f"the cache holds {self.num_pages * PAGE_TOKENS} tokens ({self.num_pages} pages), "
                f"less than one context of {self.context_length}",
                hint=f"lower --context-length to {self.num_pages * PAGE_TOKENS}, or give the cache more memory",
            )
