"""When silence is too long: measured step times, and the limit that follows from them.

A fixed limit would either kill a big model on a slow machine in its first long prefill or leave a small one hanging
for minutes. And an engine that is not let run on a crowded machine does not hang: a new one would not be let run
either, and would have to load the model first. This file only reckons; who is killed, and by whom, is the supervisor's
business.
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
    waiting_factor: float = 10.0  # × the limit is believed on top, of time in which it waited for a processor


class StepClock:
    """Step times of one engine and the time of its last sign of life. Times are seconds of a monotonic clock."""

    def __init__(self, patience: Patience, warm_step_s: float, chunk_tokens: int, now: float) -> None:
        self._patience = patience
        self._longest_first_s = patience.first_factor * warm_step_s * chunk_tokens
        self._steps: deque[float] = deque(maxlen=WINDOW)
        self._last_sign = now
        self._last_look = now
        self._waited_s = 0.0  # by the last look, since it began
        self._excused_s = 0.0  # of the silence: it waited for a processor

    def stepped(self, seconds: float, now: float) -> None:
        """Note a step, which is a sign of life."""
        self._steps.append(seconds)
        self.signed(now)

    def signed(self, now: float) -> None:
        """Note another sign of life, or that nothing is expected."""
        self._last_sign = now
        self._excused_s = 0.0

    @property
    def limit_s(self) -> float:
        """The longest silence that is still believed to be work."""
        slow = sorted(self._steps)[-1 - len(self._steps) // 100] if self._steps else 0.0
        return max(self._patience.floor_s, self._patience.factor * slow, self._longest_first_s)

    def silence_s(self, now: float) -> float:
        """Return how long there was no sign of life, without the time in which it was not let run."""
        return now - self._last_sign - self._excused_s

    def is_silent_too_long(self, now: float, expected_gap_s: float, waited_s: float = 0.0) -> bool:
        """Look, as the watchdog does every `expected_gap_s`.

        A look that comes late means that this process was stopped or busy, not the engine: what it missed is not held
        against the engine.

        waited_s: how long the engine's threads have waited for a processor since they began, all together. What came
        to it since the last look is excused, but never more than the time that has passed.
        """
        passed = now - self._last_look
        self._last_look = now
        if passed > 2 * expected_gap_s:
            self._last_sign = min(now, self._last_sign + passed - expected_gap_s)
            passed = expected_gap_s
        self._excuse(min(max(0.0, waited_s - self._waited_s), passed, now - self._last_sign))
        self._waited_s = waited_s
        return self.silence_s(now) > self.limit_s

    def _excuse(self, seconds: float) -> None:
        most = self._patience.waiting_factor * self.limit_s
        self._excused_s = min(self._excused_s + seconds, most)
