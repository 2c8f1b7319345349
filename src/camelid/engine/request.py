"""What goes into the engine and what comes out: ids in, ids out.

These values cross the process border, so they hold plain data only. Text, stop strings and tools stay on the other
side.
"""

from __future__ import annotations

from dataclasses import dataclass

from camelid.rules import Beams, Rules
from camelid.types import FinishReason, Sampling


@dataclass(frozen=True)
class GenerateRequest:
    """Continue `prompt` in `num_choices` ways.

    `answers` are ids that were generated before (by an engine that died, or before a pause), one tuple per choice:
    generation goes on behind them and gives what it would have given without the interruption. A choice in `finished`
    is complete and not continued. `max_tokens` and `min_tokens` count from the end of the prompt, so they mean the
    same for a resumed request.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    min_tokens: int = 0
    end_ids: frozenset[int] = frozenset()  # tokens that end an answer; empty to ignore them
    num_choices: int = 1
    top_logprobs: int | None = None
    answers: tuple[tuple[int, ...], ...] = ()
    finished: frozenset[int] = frozenset()
    grammar: str | None = None  # that every choice has to follow, as `grammar.GrammarChecker` gives it
    adapter: str = ""  # the key of one that was loaded before; empty for the model as it is
    rules: Rules | None = None
    beams: Beams | None = None  # search for the `num_choices` best answers; `answers` are not used, it begins again
    stops: tuple[bytes, ...] = ()  # that end an answer of a search; of other answers, whoever reads them ends them
    max_seconds: float | None = None  # after which a search ends with what it has; as with `stops`
    guide: tuple[int, ...] = ()  # the prompt of guidance, whose answers grow by the same tokens; where rules guide
    scores_prompt: bool = False  # tell how likely the prompt's tokens were; with the alternatives of `top_logprobs`


@dataclass(frozen=True)
class Score:
    """How likely a token of the prompt was behind those before it, and the likeliest tokens at its place."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Token:
    """One generated token of one choice. `index` counts the answer's tokens from 0. `finish` is set on the choice's
    last token.

    An end token is reported like any other (its text is not shown). `cached_tokens` (first token only) tells how many
    prompt tokens the prefix cache spared. `prompt_scores` (first token of choice 0 only, where they were asked for) are
    those of the prompt's tokens but the first. `score` is that of the whole answer that a search with beams found.
    """

    request_id: str
    choice: int
    index: int
    id: int
    finish: FinishReason | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    cached_tokens: int = 0
    prompt_scores: tuple[Score, ...] = ()
    score: float | None = None


@dataclass(frozen=True)
class EmbedRequest:
    """Make a vector of each of `texts`, which are ids with all that the model wants around them.

    `seconds` says, where texts are pairs, with which token the second one of each begins.
    """

    id: str
    texts: tuple[tuple[int, ...], ...]
    seconds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Embedded:
    """The vectors of a request's texts, in their order: 32-bit floats, little-endian."""

    request_id: str
    vectors: tuple[bytes, ...]
