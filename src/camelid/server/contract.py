"""What the server asks of a runtime, and nothing more: tests put a scripted one in its place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from camelid.runtime.status import Health, Judgements, ModelStatus
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Embeddings,
    Event,
    Ranking,
    RankRequest,
    Sampling,
    Tokens,
)


class Loaded(Protocol):
    """A model that has been loaded. Its own name may differ from the one it was loaded by, which may be a path."""

    @property
    def name(self) -> str:
        """What the list of models calls it."""


class ServedRuntime(Protocol):
    """The runtime as the server sees it.

    Errors of a request are raised by the first step of its iterator, before any event.
    """

    async def load(self, name: str) -> Loaded:
        """Load a model for the operator."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of one conversation turn.

        Closing the iterator frees what the request holds within one step.
        """

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of one plain completion."""

    async def ready(self, name: str, keep_s: float | None = None) -> Loaded:
        """Return the model that a request is going to use, loaded now if need be; kept `keep_s` behind the request."""

    async def keep(self, name: str, keep_s: float | None) -> Loaded:
        """Load a model if need be and keep it so long, where no request follows."""

    async def release(self, name: str) -> None:
        """Unload a model now, or as soon as its last request has ended."""

    async def load_adapter(self, model: str, name: str, path: str, *, replaces: bool = False) -> object:
        """Let requests choose an adapter of a loaded model, as `model:name`."""

    async def unload_adapter(self, model: str, name: str) -> None:
        """Take no more requests for an adapter."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return a vector for each input."""

    async def rank(self, request: RankRequest) -> Ranking:
        """Return how well each document answers a query."""

    async def count_tokens(self, request: ChatRequest) -> int:
        """Return how many tokens the prompt of a conversation has."""

    async def tokenize(self, name: str, text: str, *, with_bos: bool = True) -> Tokens:
        """Return a text as a model reads it."""

    async def tokenize_chat(self, request: ChatRequest, *, add_generation_prompt: bool = True) -> Tokens:
        """Return the prompt of a conversation as the model reads it."""

    async def detokenize(self, name: str, ids: Sequence[int], *, shows_control: bool = True) -> str:
        """Return the text of ids, control tokens spelled out or left out."""

    def sampling(self, name: str) -> Sampling:
        """Return the sampling that a loaded model's makers recommend."""

    def loaded(self) -> Sequence[ModelStatus]:
        """Return the loaded models."""

    def health(self) -> Health:
        """Say how the engines are."""

    def stats(self) -> Mapping[str, float]:
        """Return the engines' counts and levels by name."""

    def judgements(self) -> Judgements:
        """Return what safety models have said so far."""

    async def close(self) -> None:
        """Stop. Open requests end with Unavailable."""
