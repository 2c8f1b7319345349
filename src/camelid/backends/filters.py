"""What narrows the choice of the next token: top_k, top_p and their kind.

Apart from `sampling` because each filter is a rule of its own and the chain does not care which there are. A filter
sees tokens by their gaps: how far the scaled score of each lies below the best one. Weights are exp(−gap). It returns
the indexes of those that stay, ascending.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.rules import Rules
from camelid.types import Sampling

Scores = NDArray[np.floating[Any]]
Indexes = NDArray[np.intp]  # always ascending
Filter = Callable[[Scores], Indexes]  # gaps → those that stay

FIRST_RANKS = (128, 2048, 32768)  # how many of the best tokens are tried before the whole vocabulary is
SMALL = 512  # sorting so few costs less than halving them again
TOP_H_RANK = 100  # the tokens that top_h looks at, as Transformers has it


def filters_of(sampling: Sampling, rules: Rules | None, keep: int) -> list[Filter]:
    """Return the filters that are switched on, in order; each leaves at least `keep` tokens.

    With `rules` the order is Transformers', else that of `Sampling`.
    """
    top_k, top_p, min_p, typical_p = _common(sampling, keep)
    if rules is None:
        return [one for one in (top_k, typical_p, top_p, min_p) if one is not None]
    top_h, epsilon, eta = _rare(rules, keep)
    return [one for one in (top_h, top_k, top_p, min_p, typical_p, epsilon, eta) if one is not None]


def _common(sampling: Sampling, keep: int) -> tuple[Filter | None, ...]:
    return (
        (lambda gaps: lowest_of(gaps, max(sampling.top_k, keep))) if sampling.top_k > 0 else None,
        # Holtzman et al. 2019 (nucleus)
        (lambda gaps: prefix(gaps, weights_of(gaps), sampling.top_p, keep)) if sampling.top_p < 1 else None,
        (lambda gaps: _min_p(gaps, sampling.min_p, keep)) if sampling.min_p > 0 else None,
        (lambda gaps: _typical_p(gaps, sampling.typical_p, keep)) if sampling.typical_p < 1 else None,
    )


def _rare(rules: Rules, keep: int) -> tuple[Filter | None, ...]:
    top_h = rules.top_h
    return (
        None if top_h is None else lambda gaps: _top_h(gaps, top_h),
        (lambda gaps: _likely(gaps, rules.epsilon_cutoff, keep)) if rules.epsilon_cutoff > 0 else None,
        (lambda gaps: _likely(gaps, _eta(gaps, rules.eta_cutoff), keep)) if rules.eta_cutoff > 0 else None,
    )


def weights_of(gaps: Scores) -> Scores:
    """Return exp(−gap)."""
    weights = np.negative(gaps)
    return np.exp(weights, out=weights)


def lowest_of(keys: Scores, count: int) -> Indexes:
    """Keep the `count` lowest keys; of those that equal the last one, the lowest ids."""
    if count >= len(keys):
        return np.arange(len(keys))
    return _lowest(keys, np.partition(keys, count - 1)[count - 1], count)


def prefix(keys: Scores, weights: Scores, share: float, keep: int = 1) -> Indexes:
    """Keep the lowest keys (equals: the lowest id first) until they hold `share` of all weight, `keep` at least."""
    last, count = _cut(keys, weights, share * float(np.sum(weights, dtype=np.float64)))
    return lowest_of(keys, keep) if count < keep else _lowest(keys, last, count)


def _typical_p(gaps: Scores, share: float, keep: int) -> Indexes:
    """Keep the tokens whose information is closest to the expected one, until their probability reaches `share`.

    −log p − H = gap − E[gap]: the normalization falls out. Source: Meister et al. 2022 (locally typical sampling).
    """
    weights = weights_of(gaps)
    possible = np.flatnonzero(weights)
    expected = np.sum(weights[possible] * gaps[possible], dtype=np.float64) / np.sum(weights, dtype=np.float64)
    return prefix(np.abs(gaps - expected.astype(gaps.dtype)), weights, share, keep)


def _min_p(gaps: Scores, share: float, keep: int) -> Indexes:
    """Keep the tokens that have at least `share` of the likeliest one's probability. Source: Nguyen et al. 2024."""
    return _or_lowest(gaps, np.flatnonzero(weights_of(gaps - gaps.min()) >= share), keep)


def _likely(gaps: Scores, least: float, keep: int) -> Indexes:
    """Keep the tokens that have at least the probability `least`. Source: Hewitt et al. 2022 (epsilon sampling)."""
    weights = weights_of(gaps)
    return _or_lowest(gaps, np.flatnonzero(weights >= least * float(np.sum(weights, dtype=np.float64))), keep)


def _eta(gaps: Scores, epsilon: float) -> float:
    """Return the probability below which eta sampling drops a token. Source: Hewitt et al. 2022."""
    weights = weights_of(gaps).astype(np.float64)
    return min(epsilon, math.sqrt(epsilon) * math.exp(-_entropy(weights / weights.sum())))


def _top_h(gaps: Scores, share: float) -> Indexes:
    """Keep the likeliest tokens while what they add to the entropy is at most `share` of it. Source: Top-H, 2025."""
    ids = lowest_of(gaps, TOP_H_RANK)
    order = ids[np.argsort(gaps[ids], kind="stable")]
    weights = weights_of(gaps[order]).astype(np.float64)
    probabilities = weights / weights.sum()
    possible = probabilities[probabilities > 0]
    sums = np.cumsum(-possible * np.log(possible))
    count = int(np.count_nonzero(sums <= share * _entropy(probabilities)))
    return np.sort(order[: max(count, 1)])


def _entropy(probabilities: NDArray[np.float64]) -> float:
    possible = probabilities[probabilities > 0]
    return float(-np.sum(possible * np.log(possible)))


def _or_lowest(gaps: Scores, kept: Indexes, keep: int) -> Indexes:
    """Return what was kept, or, if that is too little, the `keep` best."""
    return lowest_of(gaps, keep) if len(kept) < keep else kept


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
