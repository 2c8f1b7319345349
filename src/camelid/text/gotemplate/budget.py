"""What rendering may cost. A template comes with a model from anywhere and is a program: it can loop, call itself and
double a string for ever.

Everything that takes time or memory is counted here, so a render ends whatever its template says, in this process and
without a timer. Counts are the same on every machine; processor time is the second line for what counts badly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

_CHARACTERS_PER_STEP = 256  # copying so many takes about as long as one step of the interpreter
_STEPS_PER_LOOK = 2048  # between two looks at the clock


@dataclass(frozen=True)
class Limits:
    """Bounds of one prompt. An ordinary one takes 40 steps, a quarter of a millisecond, for each message."""

    steps: int = 2_000_000
    cpu_s: float = 2.0
    depth: int = 64  # of blocks, parentheses and templates that call templates, together
    output: int = 2 * 2**20  # characters, beside twice the input: templates repeat some of it
    made: int = 4  # times as many characters in all strings that functions make


class OverBudget(Exception):
    """A limit was reached. The evaluator makes it an error with a line."""


class Budget:
    """Counts what one prompt costs, that is made of an input of so many characters."""

    def __init__(self, limits: Limits | None = None, num_input: int = 0) -> None:
        limits = limits or Limits()
        self._limits = limits
        self._steps = 0
        self._next_look = _STEPS_PER_LOOK
        self._output_left = self.max_output = limits.output + 2 * num_input
        self._made_left = limits.made * self.max_output
        self._started = time.thread_time()

    def step(self, num_characters: int = 0) -> None:
        """Count one step, and the characters that it looks at."""
        self._steps += 1 + num_characters // _CHARACTERS_PER_STEP
        if self._steps >= self._next_look:
            self._look()

    def check_depth(self, depth: int) -> None:
        """Refuse what is nested deeper than is allowed."""
        if depth > self._limits.depth:
            raise OverBudget(f"it is nested deeper than {self._limits.depth} levels")

    def write(self, num_characters: int) -> None:
        """Count characters of output, before they are written."""
        self._output_left -= num_characters
        if self._output_left < 0:
            raise OverBudget(f"it writes more than {self.max_output} characters")

    def make(self, num_characters: int) -> None:
        """Count the characters of a string that a function is about to make, or has made if that is harmless."""
        self._made_left -= num_characters
        self.step(num_characters)
        if self._made_left < 0 or num_characters > self.max_output:
            raise OverBudget(f"its functions make more than {self._limits.made * self.max_output} characters")

    def _look(self) -> None:
        self._next_look = self._steps + _STEPS_PER_LOOK
        if self._steps > self._limits.steps:
            raise OverBudget(f"it takes more than {self._limits.steps} steps")
        if time.thread_time() - self._started > self._limits.cpu_s:
            raise OverBudget(f"it needs more than {self._limits.cpu_s:g} s of processor time")
