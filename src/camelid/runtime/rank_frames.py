"""What the first rank of a model and the others say to each other: load this, run this batch; loaded, failed.

One small message per step; the numbers of a batch travel as they lie in memory. Framing and caps are those of
`frames.py`. No sockets here.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import Batch

from .failure import Failure
from .frames import Load

PARTS = ("ids", "positions", "row_starts", "page_table", "wanted", "page_copies", "segments", "adapters")


class Join(msgspec.Struct, frozen=True, tag="join"):
    """Be this rank of so many, meet the others in this folder, and place your part of the model."""

    load: Load
    rank: int
    size: int
    meeting: str


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Compute a batch: its arrays in the order of PARTS, as (shape, bytes of int32), None for one that is not there."""

    is_hidden: bool  # the last hidden states are wanted, not logits
    arrays: tuple[tuple[tuple[int, ...], bytes] | None, ...]


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """The weights are placed and the pages open."""


class NotJoined(msgspec.Struct, frozen=True, tag="not_joined"):
    """They cannot be; the rank leaves."""

    failure: Failure


order_decoder: msgspec.msgpack.Decoder[Join | Run] = msgspec.msgpack.Decoder(Join | Run)
answer_decoder: msgspec.msgpack.Decoder[Joined | NotJoined] = msgspec.msgpack.Decoder(Joined | NotJoined)


def run_order(batch: Batch, *, is_hidden: bool) -> Run:
    """Return the order to compute a batch."""
    return Run(is_hidden, tuple(_packed(getattr(batch, name)) for name in PARTS))


def batch_of(order: Run) -> Batch:
    """Return the batch of an order. Raises ValueError for bytes that are not those of its shapes."""
    return Batch(**dict(zip(PARTS, map(_unpacked, order.arrays), strict=True)))  # type: ignore[arg-type]


def _packed(values: NDArray[np.int32] | None) -> tuple[tuple[int, ...], bytes] | None:
    return None if values is None else (values.shape, np.ascontiguousarray(values, np.int32).tobytes())


def _unpacked(packed: tuple[tuple[int, ...], bytes] | None) -> NDArray[np.int32] | None:
    return None if packed is None else np.frombuffer(packed[1], np.int32).reshape(packed[0])
