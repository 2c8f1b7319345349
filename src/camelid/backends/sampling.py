"""From logits to a token on the host: the sampler that the reference and cpu backends share.

Apart from the backends because it is the same arithmetic for both. It knows no model and no device: rows of scores and
`Draw`s in, ids out.

What is promised:
* A row's token depends on its logits and its `Draw`, never on the other rows: a batch gives what each row alone gives.
* The chain runs in the order that `types.Sampling` states, or, where `rules.Rules` are given, in theirs, in the logits'
  own precision (float32 from the cpu backend); what is changed for single ids is computed in float64 and rounded once,
  and every sum is a float64 sum in one order.
* The draw is the inverse of the cumulative distribution of the kept tokens in ascending order of their ids, at a Philox
  number keyed by (seed, choice, position).
* For a search with beams the chain runs over log-probabilities, as in Transformers.
* Log-probabilities are those of the model itself: before masks, bias, penalties, bans, temperature and filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import BrokenLogits

from .base import Draw, Drawn, Spread, SpreadDraw
from .filters import Indexes, Scores, filters_of, lowest_of, weights_of
from .philox import uniform, uniforms
from .rules import apply_after_end, apply_before_penalties, ban_before_end, guided, log_softmax

BLOCK = 512  # about the square root of a vocabulary
LOWEST_TEMPERATURE = 1e-30  # a smaller one is 0 in float32, and 0 / 0 is no score


def sample(logits: Scores, draws: Sequence[Draw]) -> list[Drawn]:
    """Draw one token for each row of `logits` (W, V). A row that is guided has its guide's behind it.

    Raises BrokenLogits, naming all bad rows, if one holds NaN or infinity or has nothing left to choose from.
    """
    rows = enumerate(zip(logits, draws, strict=True))
    drawn = [_draw_row(row, draw, logits[index + 1 :]) for index, (row, draw) in rows]
    if bad := tuple(index for index, result in enumerate(drawn) if result is None):
        raise BrokenLogits(bad)
    return [result for result in drawn if result is not None]


def _draw_row(row: Scores, draw: Draw, behind: Scores) -> Drawn | None:
    """Return the drawn token, or None where the scores allow none. `behind` are the rows that follow."""
    if draw.is_guide:
        return Drawn(0)
    if draw.given is not None:
        return _given(row, draw.given, draw.top_logprobs or 0)
    if draw.spread is not None:
        return _spread_row(row, draw, draw.spread)
    scores = _adjusted(_guided(row, draw, behind), draw)
    best = int(scores.argmax())  # the lowest id among equals; the first NaN if there is one
    if not np.isfinite(scores[best]) or (scores is not row and not (_mends(draw) or np.isfinite(row.max()))):
        return None
    token = best if draw.sampling.temperature == 0 else _drawn_id(scores, scores[best], draw)
    if draw.top_logprobs is None:
        return Drawn(token)
    logprob, top = _logprobs(row, token, draw.top_logprobs)
    return Drawn(token, logprob, top)


# ── what changes scores ──


def _guided(row: Scores, draw: Draw, behind: Scores) -> Scores:
    rules = draw.rules
    return row if rules is None or not rules.guides else guided(row, behind[0], rules.guidance_scale)


def _adjusted(row: Scores, draw: Draw) -> Scores:
    """Return the scores after mask, bias, penalties and bans: `row` itself if there are none."""
    sampling = draw.sampling
    has_penalty = sampling.repetition_penalty != 1 or sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
    if not (has_penalty or sampling.logit_bias or draw.banned or draw.allowed is not None or draw.rules is not None):
        return row
    scores = row.copy() if draw.allowed is None else _masked(row, draw.allowed)
    if sampling.logit_bias:
        ids = np.fromiter(sampling.logit_bias.keys(), np.intp)
        scores[ids] += np.fromiter(sampling.logit_bias.values(), np.float64)
    if draw.rules is not None:
        apply_before_penalties(scores, draw, draw.rules)
    if has_penalty:
        _penalize(scores, draw)
    if draw.rules is not None:
        ban_before_end(scores, draw, draw.rules)
    if draw.banned:
        scores[np.fromiter(draw.banned, np.intp)] = -np.inf
    if draw.rules is not None:
        apply_after_end(scores, draw, draw.rules)
    return scores


def _mends(draw: Draw) -> bool:
    """Tell whether broken scores are mended instead of being an error."""
    return draw.rules is not None and draw.rules.remove_invalid_values


def _masked(row: Scores, allowed: bytes) -> Scores:
    """Return a copy of `row` in which no id has a chance whose bit is 0. Ids behind the last bit have none either."""
    bits = np.unpackbits(np.frombuffer(allowed, np.uint8), count=len(row), bitorder="little")
    return np.where(bits.view(np.bool_), row, row.dtype.type(-np.inf))


def _penalize(scores: Scores, draw: Draw) -> None:
    """Lower, in place, the scores of the ids that the penalty window holds.

    Source: Keskar et al. 2019 (CTRL) for repetition; OpenAI's API reference for presence and frequency.
    """
    sampling = draw.sampling
    prompt, answer = window(draw)
    if sampling.repetition_penalty != 1:
        seen = np.concatenate((prompt, answer))  # an id that occurs twice is computed twice from the old score: no harm
        old = scores[seen].astype(np.float64)
        scores[seen] = np.where(old > 0, old / sampling.repetition_penalty, old * sampling.repetition_penalty)
    if sampling.presence_penalty != 0 or sampling.frequency_penalty != 0:
        ids, counts = np.unique(answer, return_counts=True)
        scores[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts


def window(draw: Draw) -> tuple[Indexes, Indexes]:
    """Return the ids of the prompt and of the answer that the penalties look back on."""
    prompt, answer, window = draw.prompt, draw.answer, draw.sampling.penalty_window
    if window is not None:
        answer_start = max(0, len(answer) - window)
        prompt_start = max(0, len(prompt) - max(0, window - len(answer)))
        prompt, answer = prompt[prompt_start:], answer[answer_start:]
    return np.asarray(prompt, np.intp), np.asarray(answer, np.intp)


# ── what narrows the choice ──


def _drawn_id(scores: Scores, best: np.floating[Any], draw: Draw) -> int:
    """Scale, filter and draw from finite scores (−∞ marks a ban), the highest of which is `best`."""
    gaps, ids = _kept(scores, best, draw, 1)
    index = _pick(weights_of(gaps), uniform(draw.sampling.seed, draw.position, draw.choice))
    return index if ids is None else int(ids[index])


def _kept(scores: Scores, best: np.floating[Any], draw: Draw, keep: int) -> tuple[Scores, Indexes | None]:
    """Return the gaps of the tokens that the filters leave, and their ids; None for the ids stands for all.

    From here on a token stands by its gap: how far its scaled score lies below the best one. Weights are exp(−gap).
    Big arrays are worked on in place where possible: to be given fresh memory for one takes longer than to compute it.
    """
    with np.errstate(over="ignore"):  # a tiny temperature makes all gaps but the best one's infinite, as it should
        gaps: Scores = best - scores
        gaps /= max(draw.sampling.temperature, LOWEST_TEMPERATURE)
    ids: Indexes | None = None
    for kept_of in filters_of(draw.sampling, draw.rules, keep):
        kept = kept_of(gaps)
        ids = kept if ids is None else ids[kept]
        gaps = gaps[kept]
    return gaps, ids


def _pick(weights: Scores, number: float) -> int:
    """Return the index at which the running sum passes `number` (in [0, 1)) of the whole. Never one of weight 0.

    Sums run over blocks first: a running sum over a whole vocabulary takes as long as everything else together.
    """
    whole = len(weights) // BLOCK * BLOCK
    sums = np.sum(weights[:whole].reshape(-1, BLOCK), axis=1, dtype=np.float64)
    block_sums = np.cumsum(np.append(sums, np.sum(weights[whole:], dtype=np.float64)))
    target = number * block_sums[-1]
    block = _passed(block_sums, target)
    start = block * BLOCK
    before = block_sums[block - 1] if block else 0.0
    return start + _passed(before + np.cumsum(weights[start : start + BLOCK], dtype=np.float64), target)


def _passed(sums: NDArray[np.float64], target: float) -> int:
    """Return the first index whose sum is above `target`, or, where rounding left none, the last that adds anything."""
    return int(min(np.searchsorted(sums, target, side="right"), np.searchsorted(sums, sums[-1])))


# ── what a search with beams asks for ──


def _spread_row(row: Scores, draw: Draw, asked: SpreadDraw) -> Drawn | None:
    """Return the best tokens that may follow with their scores, or None where the scores are broken.

    The scores are log-probabilities after the chain; where it samples, after temperature and filters, too.
    """
    if not (np.isfinite(row.max()) or _mends(draw)):
        return None
    logprobs = log_softmax(row)
    scores = _adjusted(logprobs, draw)
    ids: Indexes | None = None
    if asked.samples:
        scores, ids = _sampled_scores(scores, draw, asked.keep)
    if draw.rules is not None and draw.rules.renormalize_logits and np.isfinite(scores.max()):
        scores = log_softmax(scores)
    noise = None
    if asked.samples:  # Kool, van Hoof and Welling 2019: the best after this noise are a draw without replacement
        noise = -np.log(-np.log(uniforms(draw.sampling.seed, draw.position, draw.choice, len(scores))))
    best = _best(scores if noise is None else scores + noise, asked.count)
    tokens = best if ids is None else ids[best]
    top = () if draw.top_logprobs is None else _likeliest(row, draw.top_logprobs)
    return Drawn(
        int(tokens[0]),
        top=top,
        spread=Spread(
            tokens,
            scores[best].astype(np.float32),
            None if noise is None else noise[best],
            None if draw.top_logprobs is None else logprobs[tokens],
        ),
    )


def _sampled_scores(scores: Scores, draw: Draw, keep: int) -> tuple[Scores, Indexes | None]:
    """Return the scaled scores that the filters leave, and their ids; None stands for all."""
    best = scores.max()
    temperature = max(draw.sampling.temperature, LOWEST_TEMPERATURE)
    if not np.isfinite(best):
        return scores, None
    gaps, ids = _kept(scores, best, draw, keep)
    with np.errstate(over="ignore"):
        return best / temperature - gaps, ids


def _best(keys: Scores, count: int) -> Indexes:
    """Return the indexes of the `count` highest keys, ascending; of equals the lowest.

    At least so many blocks have a key at or above the lowest of the best blocks' highest, so the rest need not be
    looked at.
    """
    whole = len(keys) // BLOCK * BLOCK
    if whole // BLOCK <= 2 * count:
        return lowest_of(-keys, count)
    highest = keys[:whole].reshape(-1, BLOCK).max(axis=1)
    least = np.partition(highest, len(highest) - count)[len(highest) - count]
    inside = np.flatnonzero(keys >= least)
    return inside[lowest_of(-keys[inside], count)]


def _likeliest(row: Scores, count: int) -> tuple[tuple[int, float], ...]:
    return _logprobs(row, 0, count)[1]


# ── what is reported ──


def _given(row: Scores, token: int, count: int) -> Drawn | None:
    """Return a token that is known with its log-probability, or None where the scores are broken."""
    return Drawn(token, *_logprobs(row, token, count)) if np.isfinite(row).all() else None


def _logprobs(row: Scores, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return the log-probability of `token`, and the `count` likeliest tokens with theirs, highest first."""
    best = row.max()
    log_total = float(best) + float(np.log(np.sum(np.exp(row - best), dtype=np.float64)))
    ids = lowest_of(-row, count) if count else np.arange(0)
    likeliest = ids[np.argsort(-row[ids], kind="stable")]
    return float(row[token]) - log_total, tuple((int(id_), float(row[id_]) - log_total) for id_ in likeliest)
