"""What the scheduler wants run in one step: a value, so that a step can be looked at, repeated or thrown away."""

from __future__ import annotations

from dataclasses import dataclass

from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some tokens of one sequence."""

    sequence: Sequence
    start: int  # position of the first token to compute; what comes before it lies in the sequence's pages
    num_tokens: int  # how many, at least 1; the sequence has pages for all of them
    draws: bool  # whether the last of them is the sequence's last, so that the next token can be drawn
    guess: tuple[int, ...] = ()  # tokens that may follow: computed too, so that the ones behind can be drawn at once
    num_scored: int = 0  # rows before those that draw, whose logits tell how likely the prompt's next token was

    @property
    def num_rows(self) -> int:
        """Tokens that the model computes."""
        return self.num_tokens + len(self.guess)

    @property
    def num_draws(self) -> int:
        """Tokens that are drawn: one, and one behind each guessed token."""
        return 1 + len(self.guess) if self.draws else 0

    @property
    def num_wanted(self) -> int:
        """Rows whose logits are wanted: they are its last ones."""
        return self.num_scored + self.num_draws


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one step computes."""

    chunks: tuple[Chunk, ...]  # in the order of the batch: decodes, prompts begun, prompts that start; a sequence once
    page_copies: tuple[tuple[int, int], ...]  # from, to; made before anything is computed

    @property
    def num_decodes(self) -> int:
        """The sequences that run with their last token only."""
        return sum(chunk.draws and chunk.num_tokens == 1 for chunk in self.chunks)

    @property
    def num_prompt_tokens(self) -> int:
        """The tokens of all others."""
        return sum(chunk.num_tokens for chunk in self.chunks) - self.num_decodes

    @property
    def drawing(self) -> list[Sequence]:
        """The sequence of each wanted row, in their order."""
        return [chunk.sequence for chunk in self.chunks for _ in range(chunk.num_wanted)]
