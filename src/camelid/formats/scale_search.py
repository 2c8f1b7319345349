"""The search for the scales of K-quants: which scale, and minimum, loses least when a sub-block has few levels.

For a fixed rounding the best scale has a closed form, weighted least squares. But the rounding depends on the scale. So
a grid of roundings is tried, the one with the least weighted error wins, and where there is a minimum too, rounding and
fitting alternate a few more times from there. It is separate from the encoders because it is arithmetic on plain
arrays: it knows no layout.

Weights of large magnitude count more, since they tend to meet large activations: without calibration data that is the
usual stand-in for importance (ggml does the same). Arrays lie as (k, n) here, sub-blocks side by side: each pass is
then one contiguous operation, and a reduction over a sub-block adds k long rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# How many levels more (or fewer) than there are the range of a sub-block is divided into, for each trial. Cutting off
# extremes rarely pays, so most trials are finer than the range. On normal weights 13 trials and 3 refinements lose less
# than 21 trials alone, in less time: 7.15 % against 7.17 % for Q4_K.
MINIMUM_TRIALS = np.linspace(-2.0, 0.5, 13, dtype=np.float32)
REFINEMENTS = 3
SCALE_TRIALS = np.linspace(-0.9, 0.9, 19, dtype=np.float32)


def search_scale_and_minimum(groups: Floats, top: int) -> tuple[Floats, Floats]:
    """Find scale and minimum, both >= 0, such that scale * q - minimum is near each group for q in 0..top.

    groups: (n, k). Returns two arrays (n,).
    """
    x = np.ascontiguousarray(groups.T)  # (k, n)
    weight = np.abs(x) + np.sqrt(np.mean(x * x, axis=0))
    low = np.minimum(x.min(axis=0), np.float32(0))  # (n,)
    extent = x.max(axis=0) - low
    fit = _AffineFit(x, weight)
    above, q = x - low, np.zeros_like(x)
    flat = np.zeros_like(low)
    best = np.stack([fit.error(flat, low, *fit.sums(q)), flat, low])  # what is left where the whole group is equal
    for trial in MINIMUM_TRIALS:
        np.multiply(above, _divide(np.float32(top) + trial, extent), out=q)
        np.minimum(np.rint(q, out=q), np.float32(top), out=q)
        best = _better(best, fit.solve(q))
    for _ in range(REFINEMENTS):
        np.multiply(x - best[2], _divide(np.float32(1), best[1]), out=q)
        np.clip(np.rint(q, out=q), 0, top, out=q)
        best = _better(best, fit.solve(q))
    zero = np.float32(0)
    return np.maximum(best[1], zero) + zero, zero - best[2]  # so that a zero has no sign


def search_scale(groups: Floats, bottom: int, top: int) -> Floats:
    """Find the scale, of either sign, such that scale * q is near each group for q in bottom..top.

    groups: (n, k); bottom is negative, and the weight of largest magnitude is laid near it. Returns (n,).
    """
    x = np.ascontiguousarray(groups.T)  # (k, n)
    weight = x * x
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=0, keepdims=True), axis=0)[0]
    weighted, q = weight * x, np.empty_like(x)
    best = np.zeros((2, len(largest)), dtype=np.float32)
    for trial in SCALE_TRIALS:
        np.multiply(x, _divide(np.float32(bottom) + trial, largest), out=q)
        np.clip(np.rint(q, out=q), bottom, top, out=q)
        along, square = _dot(weighted, q), _dot(weight * q, q)
        scale = _divide(along, square)
        best = _better(best, np.stack([-along * scale, scale]))  # the error, less what no scale can change
    found: Floats = best[1]
    return found


class _AffineFit:
    """Weighted least squares of scale * q + offset to x, per column, offset <= 0."""

    def __init__(self, x: Floats, weight: Floats) -> None:
        self.weight, self.weighted = weight, weight * x
        self.total, self.x = weight.sum(axis=0), self.weighted.sum(axis=0)

    def sums(self, q: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the weighted sums of q, q squared and q times x, each (n,)."""
        heavy = self.weight * q
        return heavy.sum(axis=0), _dot(heavy, q), _dot(self.weighted, q)

    def solve(self, q: Floats) -> Floats:
        """Return the error of the best fit, its scale and its offset: (3, n)."""
        one, two, along = self.sums(q)
        determinant = self.total * two - one * one
        scale = _divide(self.total * along - self.x * one, determinant)
        offset = _divide(two * self.x - one * along, determinant)
        # Where all q are equal the determinant is 0 but for rounding, 32 terms of 2**-24 each: scale alone decides.
        free = (offset <= 0) & (determinant > np.float32(1e-5) * self.total * two)
        scale = np.where(free, scale, _divide(along, two))
        offset = np.where(free, offset, np.float32(0))
        return np.stack([self.error(scale, offset, one, two, along), scale, offset])

    def error(self, scale: Floats, offset: Floats, one: Floats, two: Floats, along: Floats) -> Floats:
        """Return the weighted squared error, less the part that no fit can change."""
        by_scale = scale * (scale * two + 2 * (offset * one - along))
        by_offset = offset * (offset * self.total - 2 * self.x)
        error: Floats = by_scale + by_offset
        return error


def _better(best: Floats, trial: Floats) -> Floats:
    """Return, column by column, the one of two fits whose error (its first row) is less."""
    better: Floats = np.where(trial[0] < best[0], trial, best)
    return better


def _dot(a: Floats, b: Floats) -> Floats:
    """Add up k products, each rounded, in ascending order: the encoders in C++ give the same bits."""
    result: Floats = (a * b).sum(axis=0)
    return result


def _divide(a: Floats | np.float32, b: Floats) -> Floats:
    """Return a / b, and 0 where b is 0 or so small that the quotient overflows."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        quotient = np.divide(a, b, dtype=np.float32)
    finite: Floats = np.where(np.isfinite(quotient), quotient, np.float32(0))
    return finite
