"""What `predict` answers, as types, and its routes in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from camelid.runtime.generate_parameters import NEUTRAL, REFUSED
from camelid.types import MAX_CHOICES

from ..bounds import BOUNDS
from ..described import Describer, Rules
from .replies import BINARY

Reason = Literal["stop", "length", "tool_calls", "content_filter"]
_COUNT = {"minimum": 0, "maximum": 2**31 - 1}
_LENGTH = {"minimum": 1, "maximum": 2**31 - 1}
_BOUNDS: Mapping[str, Mapping[str, Any]] = {
    **BOUNDS,
    "top_k": _COUNT,
    "seed": {"minimum": 0, "maximum": 2**64 - 1},
    "max_tokens": _LENGTH,
    "max_length": _LENGTH,
    "max_new_tokens": _LENGTH,
    "min_length": _COUNT,
    "min_new_tokens": _COUNT,
    "max_time": {"minimum": 0, "maximum": 1e9},
    "num_return_sequences": {"minimum": 1, "maximum": MAX_CHOICES},
}


class _Shape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Strict: there are no other fields."""


class ErrorReply(_Shape):
    """The envelope of errors. The headers x-baseten-error-source and x-baseten-error-code say whose fault it is."""

    error: str


class PredictUsage(_Shape):
    """What was counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class PredictReply(_Shape):
    """An answer. With `num_return_sequences` above 1 there are lists of as many. As built there is only `output`."""

    output: str | list[str]
    finish_reason: Reason | list[Reason] = "stop"
    usage: PredictUsage | None = None
    scores: list[list[float]] = []
    sequences_scores: list[float] = []


class Empty(_Shape):
    """Nothing: it is the status that says something."""


SHAPES = (PredictReply, ErrorReply, Empty)
PREDICT = Describer("Predict", ErrorReply, BINARY, Rules(_BOUNDS, REFUSED, NEUTRAL))
