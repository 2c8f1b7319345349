"""The host sampler draws what its slow twin draws, from the distribution that was asked for, row by row."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from camelid.backends.base import Draw, Drawn
from camelid.backends.philox import uniform
from camelid.backends.sampling import sample
from camelid.errors import BrokenLogits
from camelid.types import Sampling

GAP = 1e-5  # what float32 may move a score or a sum of probabilities by; closer calls are left out of the comparison


# ── the slow twin: the whole chain as a textbook has it, one token at a time, in float64 ──


@dataclass
class Twin:
    """`is_clear` turns false when a decision was so close that rounding may turn it."""

    draw: Draw
    is_clear: bool = True
    scores: dict[int, float] = field(default_factory=dict)

    def token(self, logits: list[float]) -> int:
        sampling = self.draw.sampling
        self.scores = dict(enumerate(logits))
        self.bias()
        self.penalize()
        for banned in self.draw.banned:
            self.scores.pop(banned)
        if self.draw.allowed is not None:
            self.scores = {token: s for token, s in self.scores.items() if is_set(self.draw.allowed, token)}
        if sampling.temperature == 0:
            return self.highest()
        self.scores = {token: score / sampling.temperature for token, score in self.scores.items()}
        if sampling.top_k:
            self.keep_first(sorted(self.scores, key=lambda token: (-self.scores[token], token)), sampling.top_k)
        if sampling.typical_p < 1:
            probabilities = self.probabilities()
            entropy = -sum(p * math.log(p) for p in probabilities.values() if p > 0)
            surprise = {t: abs(-math.log(p) - entropy) if p > 0 else math.inf for t, p in probabilities.items()}
            self.keep_share(surprise, sampling.typical_p)
        if sampling.top_p < 1:
            self.keep_share({token: -score for token, score in self.scores.items()}, sampling.top_p)
        if sampling.min_p > 0:
            self.keep_likely(sampling.min_p)
        return self.picked()

    def bias(self) -> None:
        for token, bias in self.draw.sampling.logit_bias.items():
            self.scores[token] += bias

    def penalize(self) -> None:
        sampling = self.draw.sampling
        history = [(token, False) for token in self.draw.prompt] + [(token, True) for token in self.draw.answer]
        if sampling.penalty_window is not None:
            history = history[len(history) - min(len(history), sampling.penalty_window) :]
        for token in {token for token, _ in history}:
            score, penalty = self.scores[token], sampling.repetition_penalty
            self.scores[token] = score / penalty if score > 0 else score * penalty
        for token, count in Counter(token for token, is_answer in history if is_answer).items():
            self.scores[token] -= sampling.presence_penalty + sampling.frequency_penalty * count

    def highest(self) -> int:
        order = sorted(self.scores, key=lambda token: (-self.scores[token], token))
        self.compare([-self.scores[token] for token in order], 1)
        return order[0]

    def probabilities(self) -> dict[int, float]:
        highest = max(self.scores.values())
        weights = {token: math.exp(score - highest) for token, score in self.scores.items()}
        total = math.fsum(weights.values())
        return {token: weight / total for token, weight in weights.items()}

    def keep_share(self, keys: dict[int, float], share: float) -> None:
        order = sorted(keys, key=lambda token: (keys[token], token))
        probabilities, mass, count = self.probabilities(), 0.0, 0
        for token in order:
            mass, count = mass + probabilities[token], count + 1
            self.is_clear &= abs(mass - share) > GAP
            if mass >= share:
                break
        self.compare([keys[token] for token in order], count, [self.scores[token] for token in order])
        self.keep_first(order, count)

    def keep_first(self, order: list[int], count: int) -> None:
        self.compare([-self.scores[token] for token in order], count) if len(order) == len(self.scores) else None
        self.scores = {token: self.scores[token] for token in sorted(order[:count])}

    def keep_likely(self, share: float) -> None:
        probabilities = self.probabilities()
        needed = share * max(probabilities.values())
        self.is_clear &= all(p == needed or abs(p - needed) > GAP * needed for p in probabilities.values())
        self.scores = {token: score for token, score in self.scores.items() if probabilities[token] >= needed}

    def compare(self, keys: list[float], count: int, scores: list[float] | None = None) -> None:
        """Is the last kept key clearly below the first that is not, or do both stand for the same score?"""
        if count < len(keys):
            scores = scores or keys
            is_same = scores[count - 1] == scores[count]
            self.is_clear &= is_same or abs(keys[count] - keys[count - 1]) > GAP * max(1.0, abs(keys[count]))

    def picked(self) -> int:
        number, mass = uniform(self.draw.sampling.seed, self.draw.position, self.draw.choice), 0.0
        for token, probability in self.probabilities().items():
            mass += probability
            self.is_clear &= abs(mass - number) > GAP
            if mass > number:
                return token
        self.is_clear = False
        return -1


def mask_of(ids):
    """The bits of `ids`, in as many bytes as they need."""
    mask = bytearray(max(ids) // 8 + 1)
    for token in ids:
        mask[token // 8] |= 1 << token % 8
    return bytes(mask)


def is_set(mask, token):
    return token < 8 * len(mask) and bool(mask[token // 8] >> token % 8 & 1)


def drawn_alone(logits: np.ndarray, draw: Draw) -> Drawn:
    return sample(logits[None], [draw])[0]


# ── equal to the twin ──

NUM_TOKENS = 12
tokens = st.integers(0, NUM_TOKENS - 1)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.2, 0.7, 1.0, 1.3, 5.0]),
    top_k=st.integers(0, NUM_TOKENS + 1),
    top_p=st.sampled_from([0.0, 0.05, 0.31, 0.62, 0.93, 1.0, 1.0]),
    min_p=st.sampled_from([0.0, 0.0, 0.013, 0.22, 0.71, 1.0]),
    typical_p=st.sampled_from([0.0, 0.21, 0.53, 0.87, 1.0, 1.0]),
    repetition_penalty=st.sampled_from([0.5, 1.0, 1.0, 1.1, 1.7]),
    presence_penalty=st.sampled_from([-1.3, 0.0, 0.0, 0.6]),
    frequency_penalty=st.sampled_from([-0.9, 0.0, 0.0, 0.4]),
    penalty_window=st.one_of(st.none(), st.integers(0, 12)),
    logit_bias=st.dictionaries(tokens, st.sampled_from([-100.0, -3.3, 0.7, 2.1, 100.0]), max_size=3),
    seed=st.integers(0, 2**64 - 1),
)
draws = st.builds(
    Draw,
    sampling=samplings,
    choice=st.integers(0, 7),
    position=st.integers(0, 200_000),
    prompt=st.lists(tokens, min_size=1, max_size=8).map(tuple),
    answer=st.lists(tokens, max_size=8),
    banned=st.frozensets(tokens, max_size=4),
    allowed=st.one_of(st.none(), st.sets(tokens, min_size=5).map(lambda ids: mask_of(ids))),
)
logit_rows = st.lists(st.integers(-60, 60).map(lambda eighths: eighths / 8), min_size=NUM_TOKENS, max_size=NUM_TOKENS)


@settings(max_examples=1000, deadline=None)
@given(logits=logit_rows, draw=draws, dtype=st.sampled_from([np.float32, np.float64]))
def test_small_rows_give_the_token_of_the_slow_twin(logits, draw, dtype):
    twin = Twin(draw)
    expected = twin.token(logits)
    assume(twin.is_clear)
    assert drawn_alone(np.array(logits, dtype), draw) == Drawn(expected)


def test_rows_as_long_as_a_vocabulary_give_the_token_of_the_slow_twin():
    random = np.random.default_rng(20110)
    num_clear = 0
    for number in range(150):
        size = int(random.choice([600, 3000, 5000]))
        logits = (random.normal(size=size) * random.choice([0.05, 1.0, 4.0])).astype(np.float32)
        if number % 5 == 0:
            logits = np.round(logits)  # long runs of equal scores
        sampling = Sampling(
            temperature=float(random.choice([0.6, 1.0, 2.0])),
            top_k=int(random.choice([0, 40, 900])),
            top_p=float(random.choice([1.0, 0.9, 0.5, 0.999])),
            typical_p=float(random.choice([1.0, 1.0, 0.9, 0.3])),
            min_p=float(random.choice([0.0, 0.0, 0.05])),
            seed=number,
        )
        draw = Draw(sampling, 0, number, (1, 2, 3), [4, 5])
        twin = Twin(draw)
        expected = twin.token([float(logit) for logit in logits])
        if twin.is_clear:
            num_clear += 1
            assert drawn_alone(logits, draw) == Drawn(expected), sampling
    assert num_clear > 75


# ── the distribution ──


@pytest.mark.parametrize(
    ("sampling", "probabilities"),
    [
        (Sampling(), (0.4, 0.3, 0.2, 0.08, 0.02)),
        (Sampling(temperature=0.5), tuple(p**2 / 0.2968 for p in (0.4, 0.3, 0.2, 0.08, 0.02))),
        (Sampling(top_k=2), (4 / 7, 3 / 7, 0, 0, 0)),
        (Sampling(top_p=0.75), (4 / 9, 3 / 9, 2 / 9, 0, 0)),
        (Sampling(min_p=0.19), (40 / 98, 30 / 98, 20 / 98, 8 / 98, 0)),
        (Sampling(top_k=4, top_p=0.7), (4 / 7, 3 / 7, 0, 0, 0)),  # 0.4 + 0.3 is 0.714 of the four
    ],
)
def test_drawn_frequencies_follow_the_distribution(sampling, probabilities):
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.08, 0.02])).astype(np.float32)
    num_draws = 5_000
    rows = np.broadcast_to(logits, (num_draws, 5))
    drawn = sample(rows, [Draw(sampling, 0, position, (0,), ()) for position in range(num_draws)])
    counts = np.bincount([token.id for token in drawn], minlength=5)
    expected = np.array(probabilities) * num_draws
    assert counts[expected == 0].tolist() == [0] * int((expected == 0).sum())
    possible = expected > 0
    chi_square = float(((counts - expected)[possible] ** 2 / expected[possible]).sum())
    assert chi_square < 18.5  # 4 degrees of freedom or fewer: exceeded once in 1000 by chance; the seed is fixed


def test_choices_of_one_request_are_drawn_independently():
    logits = np.zeros((2, 64), np.float32)
    pairs = [
        tuple(token.id for token in sample(logits, [Draw(Sampling(), choice, p, (0,), ()) for choice in (0, 1)]))
        for p in range(2000)
    ]
    assert sum(first == second for first, second in pairs) < 60  # 31 by chance


# ── rows ──


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(logit_rows, draws), min_size=2, max_size=16), seed=st.integers(0, 2**32))
def test_a_row_does_not_depend_on_the_other_rows(rows, seed):
    order = np.random.default_rng(seed).permutation(len(rows))
    logits = np.array([rows[index][0] for index in order], np.float32)
    together = sample(logits, [rows[index][1] for index in order])
    assert together == [drawn_alone(np.array(rows[index][0], np.float32), rows[index][1]) for index in order]


def test_sampling_leaves_the_logits_as_they_are():
    logits = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 12)
    before = logits.copy()
    sampling = Sampling(repetition_penalty=2.0, frequency_penalty=1.0, logit_bias={3: 5.0}, top_k=3, top_p=0.5)
    sample(logits, [Draw(sampling, 0, 0, (1, 2), (3,), frozenset({4}))] * 2)
    np.testing.assert_array_equal(logits, before)


# ── greedy, bans, edges ──


def test_greedy_takes_the_lowest_id_among_equals():
    logits = np.array([0.5, 2.0, 2.0, -1.0, 2.0], np.float32)
    assert drawn_alone(logits, Draw(Sampling(temperature=0), 0, 0, (0,), ())) == Drawn(1)


def test_top_k_of_one_and_top_p_of_zero_are_greedy():
    logits = np.array([0.5, 2.0, 2.0, -1.0, 2.0], np.float32)
    for sampling in (Sampling(top_k=1, seed=9), Sampling(top_p=0.0, seed=9)):
        assert {drawn_alone(logits, Draw(sampling, 0, p, (0,), ())) for p in range(50)} == {Drawn(1)}


def test_a_banned_token_is_never_drawn():
    logits = np.array([9.0, 1.0, 0.0], np.float32)
    for temperature in (0.0, 1.0, 100.0):
        draws_ = [Draw(Sampling(temperature=temperature), 0, p, (0,), (), frozenset({0})) for p in range(200)]
        assert 0 not in {token.id for token in sample(np.tile(logits, (200, 1)), draws_)}


def test_a_token_that_a_mask_leaves_out_is_never_drawn_and_one_behind_its_end_neither():
    logits = np.array([1.0, 9.0, 0.0, *[0.0] * 7, 9.0], np.float32)
    for temperature in (0.0, 1.0, 100.0):
        draws_ = [Draw(Sampling(temperature=temperature), 0, p, (0,), (), allowed=mask_of({0, 2})) for p in range(200)]
        drawn = {token.id for token in sample(np.tile(logits, (200, 1)), draws_)}
        assert drawn == ({0} if temperature == 0 else {0, 2})


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-6])
def test_a_tiny_temperature_is_greedy(temperature):
    logits = np.array([1.0, 3.0, 2.99], np.float32)
    assert drawn_alone(logits, Draw(Sampling(temperature=temperature), 0, 0, (0,), ())) == Drawn(1)


def test_a_number_next_to_one_never_draws_a_token_of_weight_zero():
    from camelid.backends.sampling import _pick

    weights = np.zeros(2000, np.float32)
    weights[[3, 700, 1200]] = 1.0
    assert [_pick(weights, number) for number in (0.0, 0.5, 1 - 2**-53)] == [3, 700, 1200]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(), Sampling(top_k=2), Sampling(repetition_penalty=1.5, min_p=0.1)]
)
@pytest.mark.parametrize("banned", [frozenset(), frozenset({1})])
def test_broken_logits_are_an_error_that_names_the_rows(bad, sampling, banned):
    logits = np.zeros((4, 6), np.float32)
    logits[1, 1] = logits[3, 5] = bad
    with pytest.raises(BrokenLogits) as error:
        sample(logits, [Draw(sampling, 0, 0, (1,), (2,), banned)] * 4)
    assert error.value.rows == (1, 3)


def test_nothing_left_to_choose_is_an_error():
    with pytest.raises(BrokenLogits):
        drawn_alone(np.zeros(3, np.float32), Draw(Sampling(), 0, 0, (0,), (), frozenset({0, 1, 2})))


# ── log-probabilities ──


def test_logprobs_are_those_of_the_model_before_anything_is_changed():
    probabilities = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    sampling = Sampling(temperature=0, repetition_penalty=3.0, logit_bias={0: 50.0})
    draw = Draw(sampling, 0, 0, (2,), (), frozenset({1}), top_logprobs=3)
    drawn = drawn_alone(np.log(probabilities).astype(np.float32), draw)
    assert drawn.id == 0
    assert drawn.logprob == pytest.approx(math.log(0.1), abs=1e-6)
    assert [token for token, _ in drawn.top] == [2, 1, 3]
    assert [logprob for _, logprob in drawn.top] == pytest.approx([math.log(p) for p in (0.4, 0.2, 0.2)], abs=1e-6)


def test_more_alternatives_than_tokens_gives_all_tokens():
    drawn = drawn_alone(np.zeros(3, np.float32), Draw(Sampling(temperature=0), 0, 0, (0,), (), top_logprobs=20))
    assert drawn == Drawn(0, -math.log(3), tuple((token, -math.log(3)) for token in range(3)))


def test_zero_alternatives_gives_the_chosen_tokens_logprob_only():
    drawn = drawn_alone(np.zeros(4, np.float32), Draw(Sampling(temperature=0), 0, 0, (0,), (), top_logprobs=0))
    assert drawn == Drawn(0, -math.log(4), ())
