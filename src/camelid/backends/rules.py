"""Transformers' processors of scores on a row of them: what `rules.Rules` ask for, one function each.

Apart from `sampling` because most requests ask for none of them. Each changes the row in place. The history of a draw
is the prompt with the answer so far. Source of their meaning: the documentation of Transformers' `generate`, 5.23.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.rules import Ids, Rules

from .base import Draw

Scores = NDArray[np.floating[Any]]


def guided(scores: Scores, guide: Scores, scale: float) -> Scores:
    """Return log-probabilities that are `scale` times as far from the guide's as the row's own are.

    Source: Sanchez et al. 2023 (classifier-free guidance), in Transformers' order of operations.
    """
    own, others = log_softmax(scores), log_softmax(guide)
    found: Scores = (own - others) * scores.dtype.type(scale) + others
    return found


def apply_before_penalties(scores: Scores, draw: Draw, rules: Rules) -> None:
    """Change the scores as the rules say that come before the repetition penalty."""
    for ids, bias in rules.sequence_bias:
        if _follows(draw, ids[:-1]):
            scores[ids[-1]] += bias
    if rules.encoder_repetition_penalty != 1:
        seen = np.unique(np.asarray(draw.prompt, np.intp))
        old = scores[seen].astype(np.float64)
        penalty = rules.encoder_repetition_penalty
        scores[seen] = np.where(old < 0, old / penalty, old * penalty)


def ban_before_end(scores: Scores, draw: Draw, rules: Rules) -> None:
    """Ban what would repeat n-grams, and bad words: the rules between the penalties and the shortest answer."""
    if rules.no_repeat_ngram_size:
        history = _history(draw)
        _ban_ngrams(scores, history, history, rules.no_repeat_ngram_size)
    if rules.encoder_no_repeat_ngram_size:
        prompt = np.asarray(draw.prompt, np.intp)
        _ban_ngrams(scores, prompt, _history(draw), rules.encoder_no_repeat_ngram_size)
    for ids in rules.bad_words_ids:
        if not (len(ids) == 1 and ids[0] in draw.ends) and _follows(draw, ids[:-1]):
            scores[ids[-1]] = -np.inf


def apply_after_end(scores: Scores, draw: Draw, rules: Rules) -> None:
    """Change the scores as the rules say that come behind the shortest answer."""
    num_tokens = len(draw.prompt) + len(draw.answer)
    if rules.forced_bos_token_id is not None and num_tokens == 1:
        _force(scores, (rules.forced_bos_token_id,))
    if rules.forced_eos_token_ids and draw.is_last:
        _force(scores, rules.forced_eos_token_ids)
    if rules.remove_invalid_values:
        most = float(np.finfo(scores.dtype).max)
        np.nan_to_num(scores, copy=False, nan=0.0, posinf=most, neginf=-most)
    if rules.exponential_decay_length_penalty is not None:
        _hasten(scores, draw, *rules.exponential_decay_length_penalty)
    if rules.suppress_tokens:
        scores[list(rules.suppress_tokens)] = -np.inf
    begins_late = rules.forced_bos_token_id is not None and len(draw.prompt) == 1
    if rules.begin_suppress_tokens and len(draw.answer) == begins_late:
        scores[list(rules.begin_suppress_tokens)] = -np.inf


def log_softmax(scores: Scores) -> Scores:
    """Return the logarithms of the probabilities that scores stand for."""
    shifted: Scores = scores - scores.max()
    shifted -= scores.dtype.type(np.log(np.sum(np.exp(shifted), dtype=np.float64)))
    return shifted


def _history(draw: Draw) -> NDArray[np.intp]:
    return np.concatenate((np.asarray(draw.prompt, np.intp), np.asarray(draw.answer, np.intp)))


def _follows(draw: Draw, ids: Ids) -> bool:
    """Tell whether the history ends with `ids`."""
    count = len(ids)
    tail = [*draw.answer[-count:]] if count else []
    if len(tail) < count:
        tail = [*draw.prompt[-(count - len(tail)) :], *tail]
    return tail == [*ids]


def _ban_ngrams(scores: Scores, source: NDArray[np.intp], history: NDArray[np.intp], size: int) -> None:
    """Ban each token that would complete an n-gram of `source` behind the end of `history`."""
    if len(source) < size:
        return
    windows = np.lib.stride_tricks.sliding_window_view(source, size)
    begun = history[len(history) + 1 - size :]
    scores[windows[(windows[:, :-1] == begun).all(axis=1), -1]] = -np.inf


def _force(scores: Scores, ids: Ids) -> None:
    scores[:] = -np.inf
    scores[list(ids)] = 0


def _hasten(scores: Scores, draw: Draw, start: int, factor: float) -> None:
    """Raise the scores of the tokens that end an answer, the more the longer it is behind `start` tokens."""
    steps = len(draw.answer) - start
    if steps <= 0 or not draw.ends:
        return
    ids = np.fromiter(draw.ends, np.intp)
    old = scores[ids].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        raised = old + np.abs(old) * (np.float64(factor) ** steps - 1)
    scores[ids] = np.where(np.isfinite(old), raised, old)
