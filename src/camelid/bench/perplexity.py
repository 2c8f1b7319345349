"""How well a model predicts a text: its perplexity, window by window.

The text is tokenized once, with the token that begins texts in front. Windows of `window` tokens start `stride` tokens
apart; each token but the first of all is counted once, in the first window that holds it, with whatever the window has
before it. So a stride below the window gives every token at least `window − stride` tokens to be predicted from, and a
stride as long as the window is fastest and worst. Probabilities are the model's own, and sums are made in 64 bits.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from camelid.engine.request import GenerateRequest
from camelid.errors import InvalidRequest
from camelid.runtime.model import LoadedModel
from camelid.runtime.runtime import Runtime
from camelid.settings import ModelSettings
from camelid.types import Sampling

WINDOW, STRIDE = 512, 256
Told = Callable[[int, int], None]  # tokens that are counted so far, of how many


@dataclass(frozen=True)
class Windows:
    """How a text is cut. Raises InvalidRequest."""

    window: int = WINDOW
    stride: int = STRIDE

    def __post_init__(self) -> None:
        if self.window < 2:
            raise InvalidRequest(f"window must be at least 2 tokens, got {self.window}", field="window")
        if not 1 <= self.stride < self.window:
            raise InvalidRequest(f"stride must be 1–{self.window - 1}, got {self.stride}", field="stride")

    def spans(self, num_tokens: int) -> list[tuple[int, int, int]]:
        """Return each window of a text: its first token, its end, and the first token that is counted in it."""
        spans, counted = [], 1
        for start in range(0, max(num_tokens - 1, 1), self.stride):
            end = min(start + self.window, num_tokens)
            spans.append((start, end, counted))
            counted = end
            if end == num_tokens:
                break
        return spans


@dataclass(frozen=True)
class Perplexity:
    """What was found. `num_tokens` were counted; `log_loss` is the mean of −ln p, `error` its standard error.

    `bits_per_byte` does not depend on the vocabulary, so models that cut texts differently can be compared by it.
    """

    model: str
    num_tokens: int
    num_bytes: int
    log_loss: float
    error: float
    windows: Windows

    @property
    def perplexity(self) -> float:
        """e to the mean loss: among how many tokens, all alike, the model might as well have to choose."""
        return math.exp(self.log_loss)

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model would need for a byte of the text."""
        return self.log_loss * self.num_tokens / math.log(2) / self.num_bytes


def measure_perplexity(
    name: str, settings: ModelSettings, text: str, windows: Windows, told: Told = lambda done, all_: None
) -> Perplexity:
    """Load a model and return the perplexity of a text.

    Raises what loading raises, and InvalidRequest for a text of less than two tokens.
    """
    return asyncio.run(_measure(name, settings, text, windows, told))


async def _measure(name: str, settings: ModelSettings, text: str, windows: Windows, told: Told) -> Perplexity:
    room = settings.context_length or windows.window + 1  # for the one token that every request makes
    runtime = Runtime(replace(settings, context_length=room), in_process=True)
    try:
        model = await runtime.load(name)
        if model.context_length <= windows.window:
            raise InvalidRequest(
                f"window must be below the context of {model.context_length} tokens, got {windows.window}",
                field="window",
            )
        ids = model.text.tokenizer.encode(text, with_bos=True)
        if len(ids) < 2:
            raise InvalidRequest(f"the text must have at least two tokens, got {len(ids)}", field="text")
        losses = await _losses(model, ids, windows, told)
        return _summed(model.name, losses, len(text.encode()), windows)
    finally:
        await runtime.close()


async def _losses(model: LoadedModel, ids: Sequence[int], windows: Windows, told: Told) -> list[float]:
    losses: list[float] = []
    for start, end, counted in windows.spans(len(ids)):
        scores = await _scores(model, ids[start:end])  # of the window's tokens from the second on
        losses += [-score for score in scores[counted - start - 1 :]]
        told(len(losses), len(ids) - 1)
    return losses


async def _scores(model: LoadedModel, ids: Sequence[int]) -> list[float]:
    request = GenerateRequest(
        secrets.token_hex(8), tuple(ids), Sampling(temperature=0.0), max_tokens=1, scores_prompt=True
    )
    async with aclosing(model.engine.generate(request)) as arriving:
        return [score.logprob async for tokens in arriving for token in tokens for score in token.prompt_scores]


def _summed(name: str, losses: Sequence[float], num_bytes: int, windows: Windows) -> Perplexity:
    count = len(losses)
    mean = math.fsum(losses) / count
    spread = math.fsum((loss - mean) ** 2 for loss in losses) / max(count - 1, 1)
    return Perplexity(name, count, num_bytes, mean, math.sqrt(spread / count), windows)
