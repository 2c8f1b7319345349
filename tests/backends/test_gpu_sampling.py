"""Sampling on the device, on CPU tensors, against the sampler on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.backends.test_sampling import Twin, draws, logit_rows, mask_of

from camelid.backends.base import Draw, Drawn
from camelid.backends.gpu.sampling import Rows, sample
from camelid.backends.sampling import sample as on_host
from camelid.errors import BrokenLogits
from camelid.rules import Rules
from camelid.types import Sampling

torch.set_num_threads(1)


def drawn(logits: Sequence[Sequence[float]] | np.ndarray, asked: list[Draw]) -> list[Drawn]:
    return sample(Rows(torch.tensor(np.asarray(logits), dtype=torch.float32)), asked)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(logit_rows, draws), min_size=1, max_size=4))
def test_rows_of_a_batch_give_the_tokens_of_the_host(pairs: list[tuple[list[float], Draw]]) -> None:
    for logits, draw in pairs:
        twin = Twin(draw)
        twin.token(logits)
        assume(twin.is_clear)  # no draw or cut within rounding of a border
    logits, asked = [row for row, _ in pairs], [draw for _, draw in pairs]
    assert drawn(logits, asked) == on_host(np.array(logits, np.float32), asked)


def test_rows_as_long_as_a_vocabulary_give_the_tokens_of_the_host() -> None:
    random = np.random.default_rng(4)
    rows = (random.normal(size=(48, 5000)) * random.choice([0.05, 1.0, 4.0], (48, 1))).astype(np.float32)
    rows[::5] = np.round(rows[::5])  # long runs of equal scores
    asked = [
        Draw(
            Sampling(
                temperature=float(random.choice([0.0, 0.6, 1.0, 2.0])),
                top_k=int(random.choice([0, 1, 40, 900, 6000])),
                top_p=float(random.choice([1.0, 0.9, 0.5])),
                min_p=float(random.choice([0.0, 0.05])),
                repetition_penalty=float(random.choice([1.0, 1.3])),
                frequency_penalty=float(random.choice([0.0, 0.5])),
                penalty_window=None if number % 2 else 5,
                logit_bias={7: 1.5, 4999: -3.0} if number % 3 == 0 else {},
                seed=number,
            ),
            choice=number % 4,
            position=number,
            prompt=tuple(random.integers(0, 5000, 300).tolist()),
            answer=random.integers(0, 5000, 40).tolist(),
            allowed=mask_of(set(range(0, 4000, 3))) if number % 4 == 0 else None,
            top_logprobs=number % 6 if number % 2 else None,
        )
        for number in range(48)
    ]
    found, expected = drawn(rows, asked), on_host(rows, asked)
    assert [one.id for one in found] == [one.id for one in expected]
    for mine, other in zip(found, expected, strict=True):
        assert mine.logprob == pytest.approx(other.logprob, abs=1e-6)
        assert [token for token, _ in mine.top] == [token for token, _ in other.top]
        np.testing.assert_allclose([p for _, p in mine.top], [p for _, p in other.top], atol=1e-6)


def test_known_tokens_are_scored_and_rare_wishes_are_drawn_on_the_host() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    asked = [
        Draw(Sampling(), 0, 5, (1,), [], given=17, top_logprobs=2),
        Draw(Sampling(seed=4), 0, 5, (1, 2, 1), [2], rules=Rules(no_repeat_ngram_size=2)),
        Draw(Sampling(seed=5), 0, 5, (1,), []),
    ]
    found, expected = drawn(rows, asked), on_host(rows, asked)
    assert [one.id for one in found] == [one.id for one in expected]
    assert found[0].logprob == pytest.approx(expected[0].logprob, abs=1e-6)


def test_broken_rows_are_named_and_the_others_are_not() -> None:
    nan, plain = float("nan"), Draw(Sampling(), 0, 1, (1,), [])
    nothing_left = Draw(Sampling(), 0, 1, (1,), [], allowed=b"\x00")
    scored = Draw(Sampling(), 0, 1, (1,), [], given=0)
    rows = [[0.0, 1.0], [nan, 1.0], [0.0, 1.0], [float("inf"), 1.0], [nan, 1.0]]
    with pytest.raises(BrokenLogits) as caught:
        drawn(rows, [plain, plain, nothing_left, plain, scored])
    assert caught.value.rows == (1, 2, 3, 4)


def test_logits_reach_numpy_where_it_asks_for_them() -> None:
    rows = Rows(torch.arange(6, dtype=torch.float32).reshape(2, 3))
    np.testing.assert_array_equal(np.asarray(rows), [[0, 1, 2], [3, 4, 5]])
    assert np.array(rows, np.float64).dtype == np.float64
    assert len(rows) == 2


def test_a_guided_row_is_drawn_with_its_guide() -> None:
    logits = np.random.default_rng(6).normal(0, 2, (4, 50)).astype(np.float32)
    plain = Draw(Sampling(seed=1), 0, 5, (1,), ())
    asked = [
        plain,
        Draw(Sampling(seed=2), 0, 5, (1,), (), rules=Rules(guidance_scale=3.0)),
        Draw(Sampling(), 0, 5, (), (), is_guide=True),
        plain,
    ]
    assert drawn(logits, asked) == on_host(logits, asked)
    assert drawn(logits, asked)[1].id != drawn(logits[1:2], [Draw(Sampling(seed=2), 0, 5, (1,), ())])[0].id
