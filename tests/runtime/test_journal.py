"""The journal: no token lost, none twice, and enough to go on with."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.engine.request import GenerateRequest, Token
from camelid.errors import ProtocolError
from camelid.runtime.journal import Entry, Journal
from camelid.types import FinishReason, Sampling

REQUEST = GenerateRequest("r", (1, 2, 3), Sampling(seed=9), max_tokens=5, num_choices=2)


def token(choice: int, index: int, token_id: int, finish: FinishReason | None = None) -> Token:
    return Token("r", choice, index, token_id, finish)


def test_a_new_token_is_taken_once():
    entry = Entry(REQUEST)
    assert entry.accept(token(0, 0, 7))
    assert not entry.accept(token(0, 0, 7))
    assert entry.answers == [[7], []]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (token(0, 2, 9), "request r, choice 0: token 2 came after 1 tokens"),
        (token(0, 0, 8), "request r, choice 0: token 0 was 7 and came again as 8"),
        (token(2, 0, 8), "request r has no choice 2"),
        (token(1, 1, 8), "request r, choice 1: token 1 came after the last one"),
    ],
)
def test_a_gap_or_a_contradiction_is_an_error(bad: Token, message: str):
    entry = Entry(REQUEST)
    entry.accept(token(0, 0, 7))
    entry.accept(token(1, 0, 7, FinishReason.STOP))
    with pytest.raises(ProtocolError) as caught:
        entry.accept(bad)
    assert caught.value.message == message


def test_a_resumed_request_carries_the_ids_so_far_and_the_complete_choices():
    entry = Entry(REQUEST)
    entry.accept(token(0, 0, 7))
    entry.accept(token(1, 0, 8, FinishReason.STOP))
    assert entry.resumed() == replace(REQUEST, answers=((7,), (8,)), finished=frozenset({1}))
    assert Entry(entry.resumed()).resumed() == entry.resumed()


def test_a_request_is_complete_when_every_choice_is():
    entry = Entry(REQUEST)
    entry.accept(token(0, 0, 7, FinishReason.LENGTH))
    assert not entry.is_complete
    entry.accept(token(1, 0, 7, FinishReason.STOP))
    assert entry.is_complete


def test_progress_forgives_the_deaths_before_it():
    entry = Entry(REQUEST)
    entry.deaths = 2
    entry.accept(token(0, 0, 7))
    assert entry.deaths == 0


@given(st.integers(0, 2**32), st.lists(st.integers(0, 99), min_size=1, max_size=20))
def test_tokens_that_come_again_in_any_pattern_make_the_same_answer(seed: int, ids: list[int]):
    """An engine that starts again may repeat any tail of what is known before it goes on."""
    dice, entry, sent = random.Random(seed), Entry(REQUEST), 0
    while sent < len(ids):
        start = dice.randint(0, sent)
        sent = dice.randint(sent + 1, len(ids))
        for index in range(start, sent):
            entry.accept(token(0, index, ids[index]))
    assert entry.answers == [ids, []]


def test_an_id_is_open_once_and_free_again_when_closed():
    journal = Journal()
    entry = journal.open(REQUEST)
    with pytest.raises(ProtocolError):
        journal.open(REQUEST)
    assert [*journal] == [entry]
    journal.close("r")
    journal.close("r")
    assert len(journal) == 0
    assert journal.get("r") is None


def test_tokens_of_a_choice_that_was_given_up_are_dropped_and_it_is_not_resumed():
    entry = Entry(REQUEST)
    entry.accept(token(0, 0, 7))
    entry.stop(0)
    assert not entry.accept(token(0, 1, 8))
    assert entry.resumed() == replace(REQUEST, answers=((7,), ()), finished=frozenset({0}))
