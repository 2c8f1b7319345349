"""cria's network: Llama's architecture in plain PyTorch, as small as it can be.

It knows tokens only as integers. Weights are laid out as in a Hugging Face checkpoint (rotary halves not interleaved).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The numbers that define the network; rows of every matrix are multiples of 256 so that K-quants apply."""

    vocabulary: int = 1536
    width: int = 256
    layers: int = 5
    heads: int = 8
    key_heads: int = 4
    hidden: int = 512
    theta: float = 500000.0
    epsilon: float = 1e-5
    context: int = 2048

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads


class Norm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last axis."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the halves of each head (batch, heads, length, head width) by their positions' angles."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class Attention(nn.Module):
    """Grouped-query attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        keys = shape.key_heads * shape.head_width
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, keys, bias=False)
        self.v_proj = nn.Linear(shape.width, keys, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Attend causally within each row."""
        batch, length, width = x.shape
        queries, keys, values = (
            part.view(batch, length, -1, self.shape.head_width).transpose(1, 2)
            for part in (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        )
        queries, keys = rotate(queries, cosine, sine), rotate(keys, cosine, sine)
        group = self.shape.heads // self.shape.key_heads
        keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to every position."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One transformer layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.width, shape.epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.width, shape.epsilon)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Add what attention and the feed-forward part find, and keep the positions `chosen` (count, width) or all."""
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine)
        x = x if chosen is None else x[chosen]
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Cria(nn.Module):
    """The whole network with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.epsilon)
        half = torch.arange(0, shape.head_width, 2, dtype=torch.float64) / shape.head_width
        angles = torch.outer(torch.arange(shape.context, dtype=torch.float64), shape.theta**-half)
        self.register_buffer("cosine", angles.cos().float(), persistent=False)
        self.register_buffer("sine", angles.sin().float(), persistent=False)
        self._initialize()

    def _initialize(self) -> None:
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        for name, weight in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)
            elif name.endswith("_proj.weight"):
                nn.init.normal_(weight, std=0.7 * weight.shape[1] ** -0.5)

    def forward(self, ids: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the normed states (batch, length, width) of `ids` (batch, length); rows may be padded at the end.

        With `chosen` (batch, length), a mask, return the states of those positions only (count, width).
        """
        length = ids.shape[1]
        x: Tensor = self.embed_tokens(ids)
        for index, layer in enumerate(self.layers):
            last = chosen if index == len(self.layers) - 1 else None
            x = layer(x, self.cosine[:length], self.sine[:length], last)  # type: ignore[index]
        out: Tensor = self.norm(x)
        return out

    def logits(self, states: Tensor) -> Tensor:
        """Return scores over the vocabulary."""
        return functional.linear(states, self.embed_tokens.weight)
