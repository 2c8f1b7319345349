"""Transformers' rules for scores give the scores of Transformers' own processors, one by one and in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from camelid.backends.base import Draw, Drawn, SpreadDraw
from camelid.backends.sampling import sample
from camelid.rules import Rules
from camelid.types import Sampling

VOCABULARY, MOST = 60, 30
PROMPT, ANSWER = (3, 9, 4, 3, 9, 17), (5, 3, 9)
ENDS = (7, 11)
IDS = torch.tensor([[*PROMPT, *ANSWER]])
ALL = dict[str, Any]


def processed(
    rules: Rules, sampling: Sampling, row: np.ndarray, *, samples: bool, answer: tuple[int, ...] = ANSWER
) -> np.ndarray:
    """Return the scores of all tokens after the chain; −∞ for those that it leaves out."""
    spread = SpreadDraw(VOCABULARY, samples=samples, keep=3)
    draw = Draw(
        sampling,
        0,
        9,
        PROMPT,
        answer,
        rules=rules,
        ends=frozenset(ENDS),
        is_last=len(answer) + 1 >= MOST,
        spread=spread,
    )
    (drawn,) = sample(row[None], [draw])
    return whole(drawn)


def whole(drawn: Drawn) -> np.ndarray:
    assert drawn.spread is not None
    scores = np.full(VOCABULARY, -np.inf, np.float32)
    scores[drawn.spread.ids] = drawn.spread.scores
    return scores


def theirs(names: list[tuple[str, tuple[Any, ...]]], row: np.ndarray) -> np.ndarray:
    """Return what Transformers' processors make of the log-probabilities."""
    from transformers.generation import logits_process

    scores = torch.log_softmax(torch.from_numpy(row)[None], -1)
    for name, arguments in names:
        scores = getattr(logits_process, name)(*arguments)(IDS, scores)
    found: np.ndarray = scores[0].numpy()
    return found


def rows(count: int = 12) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.normal(0, 1 + number % 4, VOCABULARY).astype(np.float32) for number in range(count)]


ENCODER = torch.tensor([PROMPT])
PROCESSORS: list[tuple[ALL, list[tuple[str, tuple[Any, ...]]]]] = [
    (
        {"sequence_bias": (((4,), 2.0), ((9, 5), -3.0), ((1, 9, 6), 9.0))},
        [("SequenceBiasLogitsProcessor", ({(4,): 2.0, (9, 5): -3.0, (1, 9, 6): 9.0},))],
    ),
    ({"encoder_repetition_penalty": 1.7}, [("EncoderRepetitionPenaltyLogitsProcessor", (1.7, ENCODER))]),
    ({"no_repeat_ngram_size": 1}, [("NoRepeatNGramLogitsProcessor", (1,))]),
    ({"no_repeat_ngram_size": 3}, [("NoRepeatNGramLogitsProcessor", (3,))]),
    ({"no_repeat_ngram_size": 40}, [("NoRepeatNGramLogitsProcessor", (40,))]),
    ({"encoder_no_repeat_ngram_size": 2}, [("EncoderNoRepeatNGramLogitsProcessor", (2, ENCODER))]),
    (
        {"bad_words_ids": ((8,), (9, 2), (7,), (3, 9, 12))},
        [("NoBadWordsLogitsProcessor", ([[8], [9, 2], [7], [3, 9, 12]], list(ENDS)))],
    ),
    (
        {"exponential_decay_length_penalty": (1, 1.5)},
        [("ExponentialDecayLengthPenalty", ((1, 1.5), list(ENDS), len(PROMPT)))],
    ),
    (
        {"exponential_decay_length_penalty": (3, 1.5)},
        [("ExponentialDecayLengthPenalty", ((3, 1.5), list(ENDS), len(PROMPT)))],
    ),
    ({"suppress_tokens": (1, 7)}, [("SuppressTokensLogitsProcessor", ([1, 7],))]),
    ({"begin_suppress_tokens": (1, 7)}, []),
    (
        {"renormalize_logits": True, "suppress_tokens": (1, 2, 3)},
        [("SuppressTokensLogitsProcessor", ([1, 2, 3],)), ("LogitNormalization", ())],
    ),
    (
        {
            "encoder_repetition_penalty": 0.6,
            "no_repeat_ngram_size": 2,
            "bad_words_ids": ((9, 1),),
            "suppress_tokens": (40,),
        },
        [
            ("EncoderRepetitionPenaltyLogitsProcessor", (0.6, ENCODER)),
            ("NoRepeatNGramLogitsProcessor", (2,)),
            ("NoBadWordsLogitsProcessor", ([[9, 1]], list(ENDS))),
            ("SuppressTokensLogitsProcessor", ([40],)),
        ],
    ),
]


@pytest.mark.parametrize(("ours", "their"), PROCESSORS)
def test_processors_give_the_scores_of_transformers(ours: ALL, their: list[tuple[str, tuple[Any, ...]]]) -> None:
    for row in rows():
        found = processed(Rules(**ours), Sampling(), row, samples=False)
        np.testing.assert_allclose(found, theirs(their, row), rtol=2e-6, atol=2e-6)


FILTERS: list[tuple[ALL, ALL, list[tuple[str, tuple[Any, ...]]]]] = [
    ({"temperature": 0.7}, {}, [("TemperatureLogitsWarper", (0.7,))]),
    ({"top_k": 9}, {}, [("TopKLogitsWarper", (9, -np.inf, 3))]),
    ({"top_k": 1}, {}, [("TopKLogitsWarper", (1, -np.inf, 3))]),
    ({"top_p": 0.6}, {}, [("TopPLogitsWarper", (0.6, -np.inf, 3))]),
    ({"min_p": 0.2}, {}, [("MinPLogitsWarper", (0.2, -np.inf, 3))]),
    ({"typical_p": 0.7}, {}, [("TypicalLogitsWarper", (0.7, -np.inf, 3))]),
    ({}, {"top_h": 0.5}, [("TopHLogitsWarper", (0.5,))]),
    ({}, {"epsilon_cutoff": 0.05}, [("EpsilonLogitsWarper", (0.05, -np.inf, 3))]),
    ({}, {"eta_cutoff": 0.1}, [("EtaLogitsWarper", (0.1, -np.inf, 3))]),
    (
        {"temperature": 1.4, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8},
        {"epsilon_cutoff": 0.03, "eta_cutoff": 0.05, "renormalize_logits": True},
        [
            ("TemperatureLogitsWarper", (1.4,)),
            ("TopKLogitsWarper", (20, -np.inf, 3)),
            ("TopPLogitsWarper", (0.9, -np.inf, 3)),
            ("MinPLogitsWarper", (0.02, -np.inf, 3)),
            ("TypicalLogitsWarper", (0.8, -np.inf, 3)),
            ("EpsilonLogitsWarper", (0.03, -np.inf, 3)),
            ("EtaLogitsWarper", (0.05, -np.inf, 3)),
            ("LogitNormalization", ()),
        ],
    ),
]


@pytest.mark.parametrize(("sampling", "rules", "their"), FILTERS)
def test_filters_leave_what_those_of_transformers_leave(
    sampling: ALL, rules: ALL, their: list[tuple[str, tuple[Any, ...]]]
) -> None:
    for row in rows():
        found = processed(Rules(**rules), Sampling(**sampling), row, samples=True)
        np.testing.assert_allclose(found, theirs(their, row), rtol=1e-5, atol=1e-5)


def test_forced_tokens_leave_no_other() -> None:
    (row,) = rows(1)
    last = processed(Rules(forced_eos_token_ids=(7,)), Sampling(), row, samples=False, answer=(1,) * (MOST - 1))
    assert np.flatnonzero(np.isfinite(last)).tolist() == [7]
    assert np.isfinite(processed(Rules(forced_eos_token_ids=(7,)), Sampling(), row, samples=False)).all()
    first = Draw(Sampling(temperature=0.0), 0, 1, (3,), (), rules=Rules(forced_bos_token_id=12))
    assert sample(row[None], [first]) == [Drawn(12)]


def test_tokens_are_suppressed_at_the_beginning_only() -> None:
    (row,) = rows(1)
    best = int(row.argmax())
    begin = Draw(Sampling(temperature=0.0), 0, 6, PROMPT, (), rules=Rules(begin_suppress_tokens=(best,)))
    assert sample(row[None], [begin])[0].id != best


def test_broken_scores_are_mended_where_that_is_asked_for() -> None:
    row = np.array([[1.0, np.nan, 3.0, -np.inf]], np.float32)
    draw = Draw(Sampling(temperature=0.0), 0, 6, (0,), (), rules=Rules(remove_invalid_values=True))
    assert sample(row, [draw]) == [Drawn(2)]
