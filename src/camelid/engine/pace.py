"""How many prompt tokens a step may carry beside answers that are being written, from what steps have cost so far.

Apart from the scheduler because it is about seconds, which decide nothing about what an answer says: a prompt gives the
same keys and values however it is cut.
"""

from __future__ import annotations

GAP = 2.5  # how much longer than a step of decodes alone a step with prompt tokens may take
FEWEST = 16  # prompt tokens of a step, so that a prompt gets on even where that takes longer
SHARE = 0.2  # of a new measurement in the running mean
WARY_SHARE = 0.5  # … where it says that a prompt token costs more: one chunk too long is a gap that everybody sees


class Pace:
    """Learns from every step. `most` bounds what it gives out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._decode_s: float | None = None  # of a step of decodes alone
        self._token_s: float | None = None  # that a prompt token adds

    def prompt_tokens(self, num_decodes: int) -> int:
        """Return how many prompt tokens the next step may carry beside `num_decodes` answers."""
        if num_decodes == 0:
            return self._most
        if not self._decode_s or not self._token_s:
            return min(FEWEST, self._most)
        affordable = (GAP - 1) * self._decode_s / self._token_s
        return max(min(int(affordable) // FEWEST * FEWEST, self._most), min(FEWEST, self._most))

    def note(self, num_prompt_tokens: int, seconds: float) -> None:
        """Take in what a step cost."""
        if num_prompt_tokens == 0:
            self._decode_s = _mean(self._decode_s, seconds)
        elif self._decode_s is not None:  # else nothing tells what the step would have cost without them
            self._token_s = _wary_mean(self._token_s, max(seconds - self._decode_s, 0.0) / num_prompt_tokens)


def _wary_mean(mean: float | None, value: float) -> float:
    """Believe sooner that something costs more than that it costs less."""
    return _mean(mean, value, WARY_SHARE if mean is not None and value > mean else SHARE)


def _mean(mean: float | None, value: float, share: float = SHARE) -> float:
    return value if mean is None else mean + share * (value - mean)
