"""Whether a draft model's guesses are worth their time: measured while answers run, never assumed.

Apart from drafting because it is about seconds, which decide nothing about what an answer says. Steps without guesses
are timed first, then a few with them; what gives more tokens a second goes on. Where guesses do not pay, they are tried
again ever more rarely, and a trial may cost so small a part of the time until the next that nobody notices.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PLAIN_STEPS, TRIAL_STEPS = 4, 6  # that are timed before it is decided
ON_STEPS = 256  # with guesses, before one without is timed again
WORTH = 1.02  # times as many tokens a second
TRIAL_SHARE = 1 / 50  # of the time until the next trial
SHORTEST_PAUSE, LONGEST_PAUSE = 64, 4096  # steps
SHARE = 0.25  # of a new measurement in the running mean


class _Phase(Enum):
    PLAIN = "plain"
    TRIAL = "trial"
    ON = "on"
    OFF = "off"


@dataclass
class _Measured:
    """What is known for about so many answers at a time."""

    phase: _Phase = _Phase.PLAIN
    num_steps: int = 0  # in this phase
    plain_s: float | None = None  # of a step without guesses
    tokens: float = 0.0  # with guesses: running sums, old steps count less
    seconds: float = 0.0
    spent_s: float = 0.0  # in this trial, all told
    pause: int = SHORTEST_PAUSE // 2  # doubles with each trial that failed


class Payoff:
    """Decides for each step. Numbers of answers that differ by less than a factor of two are taken together."""

    def __init__(self) -> None:
        self._all: dict[int, _Measured] = {}

    def is_worth_it(self, num_answers: int) -> bool:
        """Return whether the next step, which goes on with so many answers, shall have guesses."""
        return self._of(num_answers).phase in (_Phase.TRIAL, _Phase.ON)

    def is_off(self, num_answers: int) -> bool:
        """Return whether guesses were found not to pay."""
        return self._of(num_answers).phase is _Phase.OFF

    def note_plain(self, num_answers: int, seconds: float) -> None:
        """Take in what a step without guesses took."""
        found = self._of(num_answers)
        mean = found.plain_s
        found.plain_s = seconds if mean is None else mean + SHARE * (seconds - mean)
        needed = {_Phase.PLAIN: PLAIN_STEPS, _Phase.OFF: found.pause}.get(found.phase)
        if needed is not None:
            found.num_steps += 1
            if found.num_steps >= needed:
                self._enter(found, _Phase.TRIAL)

    def note_guessed(self, num_answers: int, num_tokens: int, seconds: float, preparing_s: float = 0.0) -> None:
        """Take in what a step with guesses gave, and took, drafting included.

        preparing_s: what the draft model needed beside, to read what it did not know yet.
        """
        found = self._of(num_answers)
        found.tokens = (1 - SHARE) * found.tokens + num_tokens
        found.seconds = (1 - SHARE) * found.seconds + seconds
        found.spent_s += seconds + preparing_s
        found.num_steps += 1
        if found.phase is _Phase.TRIAL and found.num_steps >= TRIAL_STEPS:
            self._decide(found, num_answers)
        elif found.phase is _Phase.ON:
            self._go_on(found, num_answers)

    def _decide(self, found: _Measured, num_answers: int) -> None:
        if self._pays(found, num_answers):
            found.pause = SHORTEST_PAUSE // 2
            self._enter(found, _Phase.ON)
            return
        assert found.plain_s is not None
        affordable = int(found.spent_s / found.plain_s / TRIAL_SHARE)
        found.pause = min(max(2 * found.pause, affordable), LONGEST_PAUSE)
        self._enter(found, _Phase.OFF)

    def _go_on(self, found: _Measured, num_answers: int) -> None:
        if not self._pays(found, num_answers):
            found.plain_s = None  # measured long ago, perhaps: decide anew
            self._enter(found, _Phase.PLAIN)
        elif found.num_steps >= ON_STEPS:
            self._enter(found, _Phase.PLAIN)

    def _pays(self, found: _Measured, num_answers: int) -> bool:
        assert found.plain_s is not None  # steps without guesses come first
        return found.tokens * found.plain_s > WORTH * num_answers * found.seconds

    def _enter(self, found: _Measured, phase: _Phase) -> None:
        found.phase, found.num_steps, found.spent_s = phase, 0, 0.0
        if phase is _Phase.TRIAL:
            found.tokens = found.seconds = 0.0

    def _of(self, num_answers: int) -> _Measured:
        return self._all.setdefault(num_answers.bit_length(), _Measured())
