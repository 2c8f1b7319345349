"""How much work a model is: bytes to read and multiply-adds to make, and the least time that roofs allow for it.

Counted from the shapes in the file, never measured. A step cannot be faster than the slower of its two roofs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from camelid.formats import Checkpoint, open_checkpoint
from camelid.formats.blocks import BlockType
from camelid.models.load import read_spec, used_tensors
from camelid.models.spec import ModelSpec, Weight
from camelid.models.weights import Slot

from .roofs import Roofs

FLOATS = (BlockType.F32, BlockType.F16, BlockType.BF16)  # multiplied as floats; all else as integers


@dataclass(frozen=True)
class Work:
    """What one model asks for. Weights are read once a step, however many rows it has."""

    weight_bytes: int  # of a step: not of an embedding that only has rows looked up
    int8_macs: int  # of a token, in the layers
    fp32_macs: int
    head_macs: int  # of a token whose logits are wanted
    is_float_head: bool
    score_macs: int  # of a token, for each token that it attends to: keys and values
    cache_bytes: int  # of a token, over all layers

    def step_seconds(self, roofs: Roofs, rows: int, attended: int, wanted: int, cached: int) -> float:
        """Return the least time of a step.

        rows: tokens that go through the layers. attended: sum over them of the tokens that they attend to. wanted: rows
        of logits. cached: tokens whose keys and values are read.
        """
        head_fp32 = self.head_macs * wanted if self.is_float_head else 0
        head_int8 = self.head_macs * wanted - head_fp32
        int8 = self.int8_macs * rows + self.score_macs * attended + head_int8
        fp32 = self.fp32_macs * rows + head_fp32
        compute = int8 / roofs.int8_macs + fp32 / roofs.fp32_macs
        return max(compute, (self.weight_bytes + self.cache_bytes * cached) / roofs.read_bytes)

    def decode_seconds(self, roofs: Roofs, streams: int, depth: float) -> float:
        """Return the least time of a step that gives each of `streams` one token, `depth` tokens into its sequence."""
        context = round(streams * depth)
        return self.step_seconds(roofs, streams, context, streams, context)

    def prefill_seconds(self, roofs: Roofs, tokens: int) -> float:
        """Return the least time of computing a prompt, as one step."""
        return self.prompt_seconds(roofs, tokens, 0)

    def prompt_seconds(self, roofs: Roofs, tokens: int, cached: int) -> float:
        """Return the least time of computing a prompt, `cached` tokens of which are known, as one step."""
        new = tokens - cached
        return self.step_seconds(roofs, new, new * cached + new * (new + 1) // 2, 1, tokens)

    def crowd_seconds(self, roofs: Roofs, streams: int, turns: int, prompt: int, cached: int, answer: int) -> float:
        """Return the least time in which so many streams are each answered `turns` times, one answer after the other.

        All streams decode in one step; a prompt's `cached` tokens are known.
        """
        decode = answer * self.decode_seconds(roofs, streams, prompt + answer / 2)
        return turns * (decode + streams * (prompt - cached) * self.int8_macs / roofs.int8_macs)


def work_of(path: str, cache_bytes: int) -> Work:
    """Count the work of a model. cache_bytes: what one token's keys and values take. Raises what opening raises."""
    with open_checkpoint(path) as checkpoint:
        spec = read_spec(checkpoint)
        return _count(checkpoint, spec, used_tensors(checkpoint, spec), cache_bytes)


def _count(checkpoint: Checkpoint, spec: ModelSpec, tensors: dict[str, Slot], cache_bytes: int) -> Work:
    head = Weight.EMBEDDING if spec.is_tied else Weight.HEAD
    weight_bytes = int8 = fp32 = head_macs = 0
    is_float_head = False
    for name, slot in tensors.items():
        info = checkpoint.tensors[name]
        if slot.weight is Weight.EMBEDDING and not spec.is_tied:
            continue
        weight_bytes += info.size_bytes
        macs = math.prod(slot.shape) if len(slot.shape) == 2 else 0
        is_float = info.block_type in FLOATS
        if slot.weight is head:
            head_macs, is_float_head = macs, is_float
        elif is_float:
            fp32 += macs
        else:
            int8 += macs
    score_macs = 2 * spec.num_layers * spec.num_heads * spec.head_dim
    return Work(weight_bytes, int8, fp32, head_macs, is_float_head, score_macs, cache_bytes)
