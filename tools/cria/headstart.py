"""Initial weights that already look things up: a previous-token head in the first layer, matching heads in the second.

Forming such "induction heads" by chance takes a small network most of a short training; here they are there from the
first step, roughly, and training shapes them. Nothing here knows a task.
Sources: Olsson et al., "In-context learning and induction heads", 2022; Trockman and Kolter, "Mimetic initialization
of self-attention layers", 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from .model import Attention, Cria, Layer, Shape

_FOCUS = 4.0  # how sharply the first layer looks at the previous token
_MATCH = 2.0  # how sharply the second layer looks for equal tokens
_SHIFT_GAIN = 0.4  # of the first layer's values and outputs
_COPY_GAIN = 0.6  # of the second layer's values and outputs
_CONSTANT = 0.6  # length of the part that all embeddings share
_PERIODS = (10.0, 20.0, 40.0, 100.0, 200.0)  # of the waves that say where a number lies
_DIGIT, _WAVE, _NOISE = 0.4, 0.25, 0.4  # shares of a number's embedding


def _frame(rows: int, columns: int) -> Tensor:
    """Return `rows` orthonormal rows."""
    whole: Tensor = torch.linalg.qr(torch.randn(columns, columns)).Q
    return whole[:rows]


def _pairs(vector: Tensor, shape: Shape, steps: float) -> Tensor:
    """Turn a head vector (halves are the pairs' parts) as the rotary embedding does for `steps` positions."""
    half = shape.head_width // 2
    angles = steps * shape.theta ** (-torch.arange(half) / half)
    first, second = vector[:half], vector[half:]
    return torch.cat((first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()))


@torch.no_grad()
def head_start(model: Cria, numbers: Mapping[int, int]) -> None:
    """Overwrite some heads of the first two layers, and the embeddings of `numbers` (id to value)."""
    shape = model.shape
    keys = shape.key_heads * shape.head_width
    frame = _frame(1 + keys, shape.width)
    common, shifted = frame[0], frame[1:]
    _spell(model.embed_tokens.weight, numbers)
    model.embed_tokens.weight.add_(_CONSTANT * common)
    told = _frame(keys // 2, shape.width)
    told = told - (told @ common)[:, None] * common
    _previous_token(model, common, told, shifted[: keys // 2])
    _matching(model, told, shifted[: keys // 2])


def _spell(embeddings: Tensor, numbers: Mapping[int, int]) -> None:
    """Give numbers embeddings that say their digits and where they lie; random ones would say neither."""
    values = torch.tensor(list(numbers.values()))
    turns = 2 * torch.pi * values[:, None] / torch.tensor(_PERIODS)
    waves = torch.cat((turns.cos(), turns.sin(), values[:, None] / 100 - 1), dim=1)
    directions = _frame(waves.shape[1] + 30, embeddings.shape[1])
    tens, units, places = directions[:20], directions[20:30], directions[30:]
    rows = _DIGIT * (tens[values // 10] + units[values % 10]) + _WAVE * (waves @ places)
    ids = torch.tensor(list(numbers))
    embeddings[ids] = embeddings[ids] * _NOISE + rows


def _rows(weight: Tensor, head: int, width: int) -> Tensor:
    return weight.data[head * width : (head + 1) * width]


def _columns(weight: Tensor, head: int, width: int) -> Tensor:
    return weight.data[:, head * width : (head + 1) * width]


def _previous_token(model: Cria, common: Tensor, told: Tensor, shifted: Tensor) -> None:
    """In the first layer, half of the key heads look one position back and write what they see into `shifted`."""
    shape, attention = model.shape, _attention(model, 0)
    width, group = shape.head_width, shape.heads // shape.key_heads
    ahead = torch.zeros(width)
    ahead[:4] = torch.tensor([1.0, 1.0, 0.7, 0.5])  # the fastest pairs tell neighbours apart
    for head in range(shape.key_heads // 2):
        part = slice(head * width, (head + 1) * width)
        _rows(attention.k_proj.weight, head, width).copy_(torch.outer(ahead, common) * _FOCUS**0.5)
        _rows(attention.v_proj.weight, head, width).copy_(told[part] * _SHIFT_GAIN)
        query = torch.outer(_pairs(ahead, shape, -1.0), common) * _FOCUS**0.5
        _rows(attention.q_proj.weight, head * group, width).copy_(query)
        _columns(attention.o_proj.weight, head * group, width).copy_(shifted[part].T * _SHIFT_GAIN)


def _matching(model: Cria, told: Tensor, shifted: Tensor) -> None:
    """In the second layer, a head per key head looks for its own token in `shifted` and tells what stands there."""
    shape, attention = model.shape, _attention(model, 1)
    width, group = shape.head_width, shape.heads // shape.key_heads
    slow = [*range(width // 4, width // 2), *range(3 * width // 4, width)]  # pairs that hardly turn with distance
    values = _frame(shape.key_heads * width, shape.width)
    for head in range(shape.key_heads):
        part, seen = slice(head * width, (head + 1) * width), slice(head * len(slow), (head + 1) * len(slow))
        _set_rows(_rows(attention.k_proj.weight, head, width), slow, shifted[seen] * _MATCH)
        _set_rows(_rows(attention.q_proj.weight, head * group, width), slow, told[seen] * _MATCH)
        _rows(attention.v_proj.weight, head, width).copy_(values[part] * _COPY_GAIN)
        _columns(attention.o_proj.weight, head * group, width).copy_(values[part].T * _COPY_GAIN)


def _set_rows(weight: Tensor, places: Sequence[int], rows: Tensor) -> None:
    weight.zero_()
    weight[list(places)] = rows


def _attention(model: Cria, layer: int) -> Attention:
    return cast("Layer", model.layers[layer]).self_attn
