"""What the runtime says about itself: its models and how their engines are. Plain values, for servers, consoles and
metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from camelid.types import Direction


@dataclass(frozen=True)
class ModelStatus:
    """A loaded model, or one with an adapter. `memory_bytes` counts weights and cache; times are Unix times in seconds.

    `expires_at` is when it is unloaded if nobody asks for it any more, None for never.
    """

    name: str
    architecture: str
    num_parameters: int
    context_length: int
    memory_bytes: int
    backend: str
    loaded_at: float
    expires_at: float | None = None
    num_requests: int = 0
    base: str | None = None  # the model without its adapter, where it is one with an adapter


@dataclass(frozen=True)
class Health:
    """How the engines are, all models together.

    is_started: a model is loaded and has made a token. is_fresh: every engine gave a sign of life lately.
    is_draining: no new requests are taken. is_overloaded: an engine has as many waiting requests as it takes.
    num_restarts: engines that died and were replaced.
    """

    is_started: bool
    is_fresh: bool
    is_draining: bool
    is_overloaded: bool
    num_in_flight: int
    num_waiting: int
    num_restarts: int


@dataclass(frozen=True)
class Judgements:
    """What safety models have said so far: how often by direction and outcome (`safe`, `unsafe`, `error`), how often
    each category by direction and key, and how long it took by direction.
    """

    outcomes: Mapping[tuple[Direction, str], int] = field(default_factory=dict)
    categories: Mapping[tuple[Direction, str], int] = field(default_factory=dict)
    seconds: Mapping[Direction, float] = field(default_factory=dict)
