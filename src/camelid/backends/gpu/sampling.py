"""From logits to tokens on the device: what `backends/sampling.py` does, for all rows at once, without fetching scores.

The same chain in the same order, with the same Philox numbers: what is changed for single ids is computed in float64
and rounded once, sums are float64 sums, the draw is the inverse of the cumulative distribution in the order of ids. Two
devices' exponentials and sums differ in their last bits, so a draw that falls within such a bit of the border between
two tokens can differ; all others are equal. Rows with what few ask for (`rules.Rules`, beams) are drawn on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camelid.errors import BrokenLogits

from .. import sampling as host
from ..base import Draw, Drawn
from ..philox import uniform

OFF = (0, 1.0, 1.0, 0.0)  # top_k, typical_p, top_p, min_p that keep everything


@dataclass(frozen=True)
class Rows:
    """Logits that stay on the device: (W, V) float32. numpy gets a copy where it asks for one."""

    scores: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.scores.cpu().numpy()
        return found if dtype is None else found.astype(dtype)


@torch.inference_mode()
def sample(rows: Rows, draws: Sequence[Draw]) -> list[Drawn]:
    """Draw one token for each row. Raises BrokenLogits, naming all bad rows (see `backends.sampling.sample`)."""
    found: dict[int, Drawn | None] = {}
    here = [index for index, draw in enumerate(draws) if _is_common(draw)]
    for index in set(range(len(draws))).difference(here):
        end = index + 1 + _is_guided(draws[index])
        found[index] = _on_host(rows.scores[index:end], draws[index:end])
    if here:
        chosen = rows.scores if len(here) == len(draws) else rows.scores[here]
        found |= zip(here, _sample(chosen, [draws[index] for index in here]), strict=True)
    if bad := tuple(index for index in range(len(draws)) if found[index] is None):
        raise BrokenLogits(bad)
    return [drawn for index in range(len(draws)) if (drawn := found[index]) is not None]


def _is_common(draw: Draw) -> bool:
    return draw.rules is None and draw.spread is None and not draw.is_guide


def _is_guided(draw: Draw) -> bool:
    return draw.rules is not None and draw.rules.guides


def _on_host(rows: Tensor, draws: Sequence[Draw]) -> Drawn | None:
    """Return what is drawn from the first row; the second, if there is one, guides it."""
    try:
        return host.sample(rows.cpu().numpy(), draws)[0]
    except BrokenLogits:
        return None


def _sample(rows: Tensor, draws: Sequence[Draw]) -> list[Drawn | None]:
    """Return what is drawn from each row, None for a broken one. Few small tensors go to the host, all at the end."""
    scores = _adjusted(rows, draws)
    best = scores.amax(1)
    tokens = torch.where(scores == best[:, None], torch.arange(rows.shape[1], device=rows.device), rows.shape[1])
    tokens = tokens.amin(1).clamp(max=rows.shape[1] - 1)  # the lowest id among equals
    is_sound = torch.isfinite(best) & torch.isfinite(rows.amax(1))
    sampled = [index for index, draw in enumerate(draws) if draw.given is None and draw.sampling.temperature > 0]
    if sampled:
        tokens[sampled] = _draw(scores[sampled], best[sampled], [draws[index] for index in sampled])
    given = [index for index, draw in enumerate(draws) if draw.given is not None]
    if given:
        tokens[given] = _numbers([draws[index].given for index in given], tokens)
        is_sound[given] = torch.isfinite(rows[given]).all(1)
    ids, sound = tokens.tolist(), is_sound.tolist()
    reported = _logprobs(rows, tokens, draws)
    return [
        Drawn(token, *reported.get(index, ())) if is_whole else None
        for index, (token, is_whole) in enumerate(zip(ids, sound, strict=True))
    ]


# ── what changes single scores ──


def _adjusted(rows: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Return the scores after masks, bias, penalties and bans: `rows` itself where there are none."""
    scores = rows
    masked = [index for index, draw in enumerate(draws) if draw.allowed is not None]
    if masked:
        allowed = torch.stack([_mask(draws[index].allowed or b"", rows) for index in masked])
        scores = rows.clone()
        scores[masked] = torch.where(allowed, rows[masked], float("-inf"))
    changed = [index for index, draw in enumerate(draws) if _changes_ids(draw)]
    if changed and scores is rows:
        scores = rows.clone()
    for index in changed:
        _change_ids(scores[index], draws[index])
    return scores


def _mask(allowed: bytes, rows: Tensor) -> Tensor:
    """Return which ids a mask allows: (V,). Ids behind its last bit are not allowed."""
    packed = torch.frombuffer(bytearray(allowed), dtype=torch.uint8).to(rows.device)
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=rows.device) & 1).bool().flatten()
    missing = rows.shape[1] - len(bits)
    return bits[: rows.shape[1]] if missing <= 0 else torch.cat((bits, bits.new_zeros(missing)))


def _changes_ids(draw: Draw) -> bool:
    sampling = draw.sampling
    has_penalty = sampling.repetition_penalty != 1 or sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
    return draw.given is None and bool(has_penalty or sampling.logit_bias or draw.banned)


def _change_ids(scores: Tensor, draw: Draw) -> None:
    """Change one row in place: bias, penalties, bans, each only where it is asked for."""
    sampling = draw.sampling
    if sampling.logit_bias:
        ids = _numbers(sampling.logit_bias, scores)
        bias = torch.tensor(list(sampling.logit_bias.values()), dtype=torch.float64, device=scores.device)
        scores[ids] = (scores[ids].double() + bias).to(scores.dtype)
    _penalize(scores, draw)
    if draw.banned:
        scores[_numbers(draw.banned, scores)] = float("-inf")


def _penalize(scores: Tensor, draw: Draw) -> None:
    sampling = draw.sampling
    if sampling.repetition_penalty == 1 and sampling.presence_penalty == 0 and sampling.frequency_penalty == 0:
        return
    prompt, answer = host.window(draw)
    if sampling.repetition_penalty != 1:
        seen = _numbers(np.unique(np.concatenate((prompt, answer))), scores)
        old, penalty = scores[seen].double(), sampling.repetition_penalty
        scores[seen] = torch.where(old > 0, old / penalty, old * penalty).to(scores.dtype)
    if sampling.presence_penalty != 0 or sampling.frequency_penalty != 0:
        ids, counts = np.unique(answer, return_counts=True)
        taken = torch.from_numpy(sampling.presence_penalty + sampling.frequency_penalty * counts.astype(np.float64))
        where = _numbers(ids, scores)
        scores[where] = (scores[where].double() - taken.to(scores.device)).to(scores.dtype)


# ── what narrows the choice, and the draw ──


def _draw(scores: Tensor, best: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Return a token for each row of scores: (W,). Tokens that a filter drops have weight 0 from there on."""
    samplings = [draw.sampling for draw in draws]
    lowest = host.LOWEST_TEMPERATURE
    temperatures = _column([max(one.temperature, lowest) for one in samplings], scores)
    gaps = (best[:, None] - scores) / temperatures  # a broken row has no gaps, and is not looked at
    kept = torch.ones_like(gaps, dtype=torch.bool)
    settings = [(one.top_k, one.typical_p, one.top_p, one.min_p) for one in samplings]
    for place, narrow in enumerate((_top_k, _typical_p, _top_p, _min_p)):
        rows = [index for index, one in enumerate(settings) if _is_on(place, one[place])]
        if rows:
            kept[rows] = narrow(gaps[rows], kept[rows], [settings[index][place] for index in rows])
    weights = torch.where(kept, torch.exp(-gaps), 0.0)
    numbers = [uniform(draw.sampling.seed, draw.position, draw.choice) for draw in draws]
    return _pick(weights, torch.tensor(numbers, dtype=torch.float64, device=scores.device))


def _is_on(place: int, value: float) -> bool:
    return value > 0 if place in (0, 3) else value < OFF[place]


def _top_k(gaps: Tensor, kept: Tensor, counts: Sequence[float]) -> Tensor:
    """Keep the lowest gaps; of those that equal the last one, the lowest ids."""
    width = gaps.shape[1]
    most = min(width, int(max(counts)))
    lowest = torch.topk(gaps, most, largest=False).values  # ascending; their values are enough
    last = _numbers([min(int(count), width) - 1 for count in counts], gaps)
    level = lowest.gather(1, last.clamp(max=most - 1)[:, None])
    below, equal = gaps < level, gaps == level
    places = last[:, None] + 1 - below.sum(1, keepdim=True)
    return kept & (below | (equal & (equal.cumsum(1) <= places)))


def _top_p(gaps: Tensor, kept: Tensor, shares: Sequence[float]) -> Tensor:
    return _prefix(gaps, torch.where(kept, torch.exp(-gaps), 0.0), kept, shares)


def _typical_p(gaps: Tensor, kept: Tensor, shares: Sequence[float]) -> Tensor:
    """Keep the tokens whose information is closest to the expected one, until they hold a share of all weight."""
    weights = torch.where(kept, torch.exp(-gaps), 0.0)
    informed = torch.where(weights > 0, weights * gaps, 0.0)
    expected = informed.double().sum(1, keepdim=True) / weights.double().sum(1, keepdim=True)
    return _prefix((gaps - expected.to(gaps.dtype)).abs(), weights, kept, shares)


def _min_p(gaps: Tensor, kept: Tensor, shares: Sequence[float]) -> Tensor:
    lowest = torch.where(kept, gaps, float("inf")).amin(1, keepdim=True)
    return kept & (torch.exp(lowest - gaps) >= _column(shares, gaps))


def _prefix(keys: Tensor, weights: Tensor, kept: Tensor, shares: Sequence[float]) -> Tensor:
    """Keep the lowest keys (equals: the lowest id first) until they hold a share of all weight, one at least."""
    ordered = torch.where(kept, keys, float("inf")).sort(dim=1, stable=True).indices
    needed = weights.double().sum(1, keepdim=True) * _column(shares, weights).double()
    sums = weights.gather(1, ordered).double().cumsum(1)
    last = torch.searchsorted(sums, needed).clamp(max=keys.shape[1] - 1)
    stays = torch.arange(keys.shape[1], device=keys.device)[None, :] <= last
    return kept & torch.zeros_like(kept).scatter(1, ordered, stays)


def _pick(weights: Tensor, numbers: Tensor) -> Tensor:
    """Return the id at which the running sum passes its number's part of the whole: (W,). Never one of weight 0."""
    sums = weights.double().cumsum(1)
    whole = sums[:, -1:].contiguous()
    passed = torch.searchsorted(sums, numbers[:, None] * whole, right=True)
    return torch.minimum(passed, torch.searchsorted(sums, whole)).clamp(max=weights.shape[1] - 1)[:, 0]


# ── what is reported ──


def _logprobs(
    rows: Tensor, tokens: Tensor, draws: Sequence[Draw]
) -> dict[int, tuple[float, tuple[tuple[int, float], ...]]]:
    """Return the log-probability of each token and the likeliest others, for the rows that ask for it."""
    asked = [index for index, draw in enumerate(draws) if draw.top_logprobs is not None or draw.given is not None]
    if not asked:
        return {}
    chosen, counts = rows[asked], [draws[index].top_logprobs or 0 for index in asked]
    best = chosen.amax(1, keepdim=True)
    totals = best[:, 0].double() + torch.exp(chosen - best).double().sum(1).log()
    own = chosen.gather(1, tokens[asked][:, None])[:, 0].double() - totals
    most = min(max(counts), rows.shape[1])
    values, ids = (part[:, :most] for part in chosen.sort(dim=1, descending=True, stable=True))
    tops = (values.double() - totals[:, None]).tolist()
    found = zip(asked, own.tolist(), ids.tolist(), tops, counts, strict=True)
    return {
        index: (one, tuple(zip(others[:count], scores[:count], strict=True)))
        for index, one, others, scores, count in found
    }


def _numbers(values: object, like: Tensor) -> Tensor:
    return torch.from_numpy(np.fromiter(values, np.int64)).to(like.device)  # type: ignore[call-overload]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(list(values), dtype=like.dtype, device=like.device)[:, None]
