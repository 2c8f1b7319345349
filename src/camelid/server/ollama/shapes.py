"""What Ollama's routes answer, as types, for the OpenAPI document. Streams are these objects, one a line."""

from __future__ import annotations

from typing import Any

import msgspec

from ..described import Describer, Rules
from ..verdicts import VerdictOut
from .making import REFUSED
from .replies import MEDIA_TYPE


class ErrorReply(msgspec.Struct, forbid_unknown_fields=True):
    """What went wrong."""

    error: str


class MessageOut(msgspec.Struct, forbid_unknown_fields=True):
    """What the assistant said, or which tools it calls."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = []


class _Answer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What all answers have; durations are nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: str = ""
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    logprobs: list[dict[str, Any]] = []
    safety: VerdictOut | None = None


class ChatOut(_Answer, kw_only=True):
    """A line of /api/chat."""

    message: MessageOut


class GenerateOut(_Answer, kw_only=True):
    """A line of /api/generate."""

    response: str
    thinking: str = ""
    context: list[int] = []
    tool_calls: list[dict[str, Any]] = []


class EmbedOut(msgspec.Struct, forbid_unknown_fields=True):
    """The vectors of /api/embed; durations are nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class EmbeddingOut(msgspec.Struct, forbid_unknown_fields=True):
    """The vector of /api/embeddings."""

    embedding: list[float]


class ModelsOut(msgspec.Struct, forbid_unknown_fields=True):
    """A list of models."""

    models: list[dict[str, Any]]


class VersionOut(msgspec.Struct, forbid_unknown_fields=True):
    """The version that runs."""

    version: str


class ShowOut(msgspec.Struct):
    """What is known of a model."""

    details: dict[str, Any]
    model_info: dict[str, Any]


class ProgressOut(msgspec.Struct):
    """How far a model is fetched."""

    status: str = ""


SHAPES = (ChatOut, GenerateOut, EmbedOut, EmbeddingOut, ModelsOut, VersionOut, ShowOut, ProgressOut)
_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
OLLAMA = Describer("Ollama", ErrorReply, MEDIA_TYPE, Rules(kinds={"input": _TEXTS}, refused=REFUSED))
