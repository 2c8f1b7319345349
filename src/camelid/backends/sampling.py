"""From logits to a token on the host: the sampler that the reference and cpu backends share.

Apart from the backends because it is the same arithmetic for both. It knows no model and no device: rows of scores and
`Draw`s in, ids out.

What is promised:
* A row's token depends on its logits and its `Draw`, never on the other rows: a batch gives what each row alone gives.
* The chain runs in the order that `types.Sampling` states, in the logits' own precision (float32 from the cpu backend);
  what is changed for single ids is computed in float64 and rounded once, and every sum is a float64 sum in one order.
* The draw is the inverse of the cumulative distribution of the kept tokens in ascending order of their ids, at a Philox
  number keyed by (seed, choice, position).
* Log-probabilities are those of the model itself: before masks, bias, penalties, bans, temperature and filters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import BrokenLogits
from camelid.types import Sampling

from .base import Draw, Drawn
from .philox import uniform

Scores = NDArray[np.floating[Any]]
Indexes = NDArray[np.intp]  # always ascending
Filter = Callable[[Scores], Indexes]  # gaps → those that stay

LOWEST_TEMPERATURE = 1e-30  # a smaller one is 0 in float32, and 0 / 0 is no score
FIRST_RANKS = (128, 2048, 32768)  # how many of the best tokens are tried before the whole vocabulary is
SMALL = 512  # sorting so few costs less than halving them again
BLOCK = 512  # about the square root of a vocabulary


def sample(logits: Scores, draws: Sequence[Draw]) -> list[Drawn]:
    """Draw one token for each row of `logits` (W, V).

    Raises BrokenLogits, naming all bad rows, if one holds NaN or infinity or has nothing left to choose from.
    """
    drawn = [_draw_row(row, draw) for row, draw in zip(logits, draws, strict=True)]
    if bad := tuple(index for index, result in enumerate(drawn) if result is None):
        raise BrokenLogits(bad)
    return [result for result in drawn if result is not None]


def _draw_row(row: Scores, draw: Draw) -> Drawn | None:
    """Return the drawn token, or None where the scores allow none."""
    if draw.given is not None:
        return _given(row, draw.given, draw.top_logprobs or 0)
    scores = _adjusted(row, draw)
    best = int(scores.argmax())  # the lowest id among equals; the first NaN if there is one
    if not np.isfinite(scores[best]) or (scores is not row and not np.isfinite(row.max())):
        return None
    token = best if draw.sampling.temperature == 0 else _drawn_id(scores, scores[best], draw)
    if draw.top_logprobs is None:
        return Drawn(token)
    logprob, top = _logprobs(row, token, draw.top_logprobs)
    return Drawn(token, logprob, top)


# ── what changes single scores ──


def _adjusted(row: Scores, draw: Draw) -> Scores:
    """Return the scores after mask, bias, penalties and bans: `row` itself if there are none."""
    sampling = draw.sampling
    has_penalty = sampling.repetition_penalty != 1 or sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
    if not (has_penalty or sampling.logit_bias or draw.banned or draw.allowed is not None):
        return row
    scores = row.copy() if draw.allowed is None else _masked(row, draw.allowed)
    if sampling.logit_bias:
        ids = np.fromiter(sampling.logit_bias.keys(), np.intp)
        scores[ids] += np.fromiter(sampling.logit_bias.values(), np.float64)
    if has_penalty:
        _penalize(scores, draw)
    if draw.banned:
        scores[np.fromiter(draw.banned, np.intp)] = -np.inf
    return scores


def _masked(row: Scores, allowed: bytes) -> Scores:
    """Return a copy of `row` in which no id has a chance whose bit is 0. Ids behind the last bit have none either."""
    bits = np.unpackbits(np.frombuffer(allowed, np.uint8), count=len(row), bitorder="little")
    return np.where(bits.view(np.bool_), row, row.dtype.type(-np.inf))


def _penalize(scores: Scores, draw: Draw) -> None:
    """Lower, in place, the scores of the ids that the penalty window holds.

    Source: Keskar et al. 2019 (CTRL) for repetition; OpenAI's API reference for presence and frequency.
    """
    sampling = draw.sampling
    prompt, answer = _window(draw)
    if sampling.repetition_penalty != 1:
        seen = np.concatenate((prompt, answer))  # an id that occurs twice is computed twice from the old score: no harm
        old = scores[seen].astype(np.float64)
        scores[seen] = np.where(old > 0, old / sampling.repetition_penalty, old * sampling.repetition_penalty)
    if sampling.presence_penalty != 0 or sampling.frequency_penalty != 0:
        ids, counts = np.unique(answer, return_counts=True)
        scores[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts


def _window(draw: Draw) -> tuple[Indexes, Indexes]:
    """Return the ids of the prompt and of the answer that the penalties look back on."""
    prompt, answer, window = draw.prompt, draw.answer, draw.sampling.penalty_window
    if window is not None:
        answer_start = max(0, len(answer) - window)
        prompt_start = max(0, len(prompt) - max(0, window - len(answer)))
        prompt, answer = prompt[prompt_start:], answer[answer_start:]
    return np.asarray(prompt, np.intp), np.asarray(answer, np.intp)


# ── what narrows the choice ──


def _drawn_id(scores: Scores, best: np.floating[Any], draw: Draw) -> int:
    """Scale, filter and draw from finite scores (−∞ marks a ban), the highest of which is `best`.

    From here on a token stands by its gap: how far its scaled score lies below the best one. Weights are exp(−gap).
    Big arrays are worked on in place where possible: to be given fresh memory for one takes longer than to compute it.
    """
    gaps = best - scores
    with np.errstate(over="ignore"):  # a tiny temperature makes all gaps but the best one's infinite, as it should
        gaps /= max(draw.sampling.temperature, LOWEST_TEMPERATURE)
    ids: Indexes | None = None
    for kept_of in _filters(draw.sampling):
        kept = kept_of(gaps)
        ids = kept if ids is None else ids[kept]
        gaps = gaps[kept]
    index = _pick(_weights(gaps), uniform(draw.sampling.seed, draw.position, draw.choice))
    return index if ids is None else int(ids[index])


def _filters(sampling: Sampling) -> list[Filter]:
    """Return the filters that are switched on, in order."""
    filters: list[Filter] = []
    if sampling.top_k > 0:
        filters.append(lambda gaps: _top_k(gaps, sampling.top_k))
    if sampling.typical_p < 1:
        filters.append(lambda gaps: _typical_p(gaps, sampling.typical_p))
    if sampling.top_p < 1:
        filters.append(lambda gaps: _prefix(gaps, _weights(gaps), sampling.top_p))  # Holtzman et al. 2019 (nucleus)
    if sampling.min_p > 0:
        filters.append(lambda gaps: _min_p(gaps, sampling.min_p))
    return filters


def _weights(gaps: Scores) -> Scores:
    weights = np.negative(gaps)
    return np.exp(weights, out=weights)


def _top_k(keys: Scores, count: int) -> Indexes:
    """Keep the `count` lowest keys; of those that equal the last one, the lowest ids."""
    if count >= len(keys):
        return np.arange(len(keys))
    return _lowest(keys, np.partition(keys, count - 1)[count - 1], count)


def _typical_p(gaps: Scores, share: float) -> Indexes:
    """Keep the tokens whose information is closest to the expected one, until their probability reaches `share`.

    −log p − H = gap − E[gap]: the normalization falls out. Source: Meister et al. 2022 (locally typical sampling).
    """
    weights = _weights(gaps)
    possible = np.flatnonzero(weights)
    expected = np.sum(weights[possible] * gaps[possible], dtype=np.float64) / np.sum(weights, dtype=np.float64)
    return _prefix(np.abs(gaps - expected.astype(gaps.dtype)), weights, share)


def _min_p(gaps: Scores, share: float) -> Indexes:
    """Keep the tokens that have at least `share` of the likeliest one's probability. Source: Nguyen et al. 2024."""
    return np.flatnonzero(_weights(gaps - gaps.min()) >= share)


def _prefix(keys: Scores, weights: Scores, share: float) -> Indexes:
    """Keep the lowest keys (equals: the lowest id first) until they hold `share` of all weight, one at least."""
    last, count = _cut(keys, weights, share * float(np.sum(weights, dtype=np.float64)))
    return _lowest(keys, last, count)


def _cut(keys: Scores, weights: Scores, needed: float) -> tuple[np.floating[Any], int]:
    """Return the highest key of the prefix that weighs `needed`, and how many tokens the prefix has.

    Halves what is undecided until it is cheap to sort, so the work is linear: to sort a whole vocabulary takes ten
    times as long.
    """
    keys, weights = _enough(keys, weights, needed)
    count, mass = 0, 0.0
    while len(keys) > SMALL:
        pivot = np.partition(keys, len(keys) // 2)[len(keys) // 2]
        half = np.flatnonzero(keys <= pivot)
        if len(half) == len(keys):  # mostly equal keys: they need no halving
            break
        half_mass = mass + float(np.sum(weights[half], dtype=np.float64))
        if half_mass < needed:
            count, mass, half = count + len(half), half_mass, np.flatnonzero(keys > pivot)
        keys, weights = keys[half], weights[half]
    order = np.argsort(keys, kind="stable")
    last = min(int(np.searchsorted(mass + np.cumsum(weights[order], dtype=np.float64), needed)), len(order) - 1)
    return keys[order[last]], count + last + 1


def _enough(keys: Scores, weights: Scores, needed: float) -> tuple[Scores, Scores]:
    """Return the lowest keys that certainly hold the prefix, and their weights: mostly a small part of a vocabulary."""
    for rank in FIRST_RANKS:
        if rank >= len(keys):
            break
        inside = np.flatnonzero(keys <= np.partition(keys, rank)[rank])
        if np.sum(weights[inside], dtype=np.float64) > needed:
            return keys[inside], weights[inside]
    return keys, weights


def _lowest(keys: Scores, last: np.floating[Any], count: int) -> Indexes:
    """Return the indexes of the `count` lowest keys, of which `last` is the highest; of its equals, the first ones."""
    below = np.flatnonzero(keys < last)
    level = np.flatnonzero(keys == last)[: count - len(below)]
    return np.sort(np.concatenate((below, level)))


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


# ── what is reported ──


def _given(row: Scores, token: int, count: int) -> Drawn | None:
    """Return a token that is known with its log-probability, or None where the scores are broken."""
    return Drawn(token, *_logprobs(row, token, count)) if np.isfinite(row).all() else None


def _logprobs(row: Scores, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return the log-probability of `token`, and the `count` likeliest tokens with theirs, highest first."""
    best = row.max()
    log_total = float(best) + float(np.log(np.sum(np.exp(row - best), dtype=np.float64)))
    ids = _top_k(-row, count) if count else np.arange(0)
    likeliest = ids[np.argsort(-row[ids], kind="stable")]
    return float(row[token]) - log_total, tuple((int(id_), float(row[id_]) - log_total) for id_ in likeliest)
