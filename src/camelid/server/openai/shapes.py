"""What OpenAI's routes answer, as types: for the OpenAPI document, and for tests that hold the answers against it.

Nothing is written with them, because a chunk for every token has no time for it; a test proves that they are true.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..verdicts import VerdictOut


class _Shape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Strict: there are no other fields."""


class Error(_Shape):
    """What went wrong. The last two come with a prompt that is too long."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str
    num_tokens: int = 0
    limit: int = 0


class ErrorReply(_Shape):
    """The envelope of errors."""

    error: Error


class CachedTokens(_Shape):
    """Tokens of the prompt that need not be computed."""

    cached_tokens: int


class CompletionUsage(_Shape):
    """What was counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Called(_Shape):
    """A function, with its arguments as JSON text."""

    name: str
    arguments: str


class CallReply(_Shape):
    """A call of a function."""

    id: str
    type: Literal["function"]
    function: Called


class ChatMessage(_Shape):
    """What the assistant said."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str = ""
    tool_calls: list[CallReply] = []


class Chance(_Shape):
    """A token and the logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]


class ScoredToken(Chance):
    """A token of the answer, with the likeliest ones at its place."""

    top_logprobs: list[Chance]


class ChatScores(_Shape):
    """The scores of an answer."""

    content: list[ScoredToken]
    refusal: None


class ChatChoice(_Shape):
    """One of the answers."""

    index: int
    message: ChatMessage
    logprobs: ChatScores | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    safety: VerdictOut | None = None


class ChatReply(_Shape):
    """The reply to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: CompletionUsage


class TextScores(_Shape):
    """The scores of a text: four lists of the same length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(_Shape):
    """One of the texts."""

    index: int
    text: str
    logprobs: TextScores | None
    finish_reason: Literal["stop", "length", "content_filter"]
    safety: VerdictOut | None = None


class TextReply(_Shape):
    """The reply to a plain completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: CompletionUsage


class ModelCard(_Shape):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parent: str | msgspec.UnsetType = msgspec.UNSET  # the model without its adapter


class ModelList(_Shape):
    """The models."""

    object: Literal["list"]
    data: list[ModelCard]


class InputUsage(_Shape):
    """What was read, where nothing is generated."""

    prompt_tokens: int
    total_tokens: int


class Embedding(_Shape):
    """A vector: numbers, or base64 of 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(_Shape):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: InputUsage


class Ranked(_Shape):
    """A document by its place in the request, and how well it answers."""

    index: int
    relevance_score: float
    document: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class RankList(_Shape):
    """The documents, the best first."""

    object: Literal["list"]
    model: str
    results: list[Ranked]
    usage: InputUsage


class TokensReply(_Shape):
    """A text as tokens."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class TextOfTokens(_Shape):
    """Tokens as a text."""

    prompt: str


SHAPES = (
    ErrorReply,
    ChatReply,
    TextReply,
    ModelCard,
    ModelList,
    EmbeddingList,
    RankList,
    TokensReply,
    TextOfTokens,
)
