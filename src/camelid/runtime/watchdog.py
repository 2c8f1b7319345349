"""When silence is too long: measured step times, and the limit that follows from them.

A fixed limit would either kill a big model on a slow machine in its first long prefill or leave a small one hanging
for minutes. This file only reckons; who is killed, and by whom, is the supervisor's business.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW = 512  # steps that the percentile is taken over


@dataclass(frozen=True)
class Patience:
    """How long an engine that has work may be silent: the largest of a floor, and multiples of what steps were
    measured to take.
    """

    floor_s: float = 10.0
    factor: float = 20.0  # × the 99th percentile of the last steps
    first_factor: float = (
        2.0  # × a whole chunk at the speed of the warm-up's single token: an upper bound of a first prefill
    )


class StepClock:
    """Step times of one engine and the time of its last sign of life. Times are seconds of a monotonic clock."""

    def __init__(self, patience: Patience, warm_step_s: float, chunk_tokens: int, now: float) -> None:
        self._patience = patience
        self._longest_first_s = patience.first_factor * warm_step_s * chunk_tokens
        self._steps: deque[float] = deque(maxlen=WINDOW)
        self._last_sign = now
        self._last_look = now

    def stepped(self, seconds: float, now: float) -> None:
        """Note a step, which is a sign of life."""
        self._steps.append(seconds)
        self._last_sign = now

    def signed(self, now: float) -> None:
        """Note another sign of life, or that nothing is expected."""
        self._last_sign = now

    @property
    def limit_s(self) -> float:
        """The longest silence that is still believed to be work."""
        slow = sorted(self._steps)[-1 - len(self._steps) // 100] if self._steps else 0.0
        return max(self._patience.floor_s, self._patience.factor * slow, self._longest_first_s)

    def silence_s(self, now: float) -> float:
        """Return how long there was no sign of life."""
        return now - self._last_sign

    def is_silent_too_long(self, now: float, expected_gap_s: float) -> bool:
        """Look, as the watchdog does every `expected_gap_s`.

        A look that comes late means that this process was stopped or busy, not the engine: what it missed is not held
        against the engine.
        """
        late = now - self._last_look - expected_gap_s
        self._last_look = now
        if late > expected_gap_s:
            self._last_sign = min(now, self._last_sign + late)
        return self.silence_s(now) > self.limit_s
