"""Guesses by prompt lookup: what is guessed, and when it is left alone."""

from array import array
from itertools import pairwise

from camelid.engine.lookup import FIRST_PAUSE, LONGEST_PAUSE, Guesser

TEXT = list(range(10, 40))


def test_what_followed_the_last_three_tokens_before_is_guessed():
    ids = array("i", [*TEXT, 1, 2, 12, 13, 14])
    assert Guesser(most=6).guess(ids, 6) == (15, 16, 17)


def test_the_later_occurrence_counts():
    ids = array("i", [1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3])
    assert Guesser(most=2).guess(ids, 2) == (5, 9)


def test_nothing_is_guessed_where_the_last_tokens_are_new():
    assert Guesser(most=6).guess(array("i", TEXT), 6) == ()
    assert Guesser(most=6).guess(array("i", [5, 5]), 6) == ()


def test_no_more_is_guessed_than_may_be():
    ids = array("i", [*TEXT, 12, 13, 14])
    assert Guesser(most=6).guess(ids, 1) == (15,)
    assert Guesser(most=6).guess(ids, 0) == ()
    assert Guesser(most=2).guess(ids, 6) == (15, 16)


def test_right_guesses_grow_longer_and_go_on_where_they_ended():
    guesser, ids = Guesser(most=8), array("i", [*TEXT, *TEXT, 12, 13, 14])
    for expected in ((15, 16, 17), (19, 20, 21, 22, 23, 24), (26, 27, 28, 29, 30, 31, 32, 33)):
        assert guesser.guess(ids, 8) == expected
        ids.extend([*expected, expected[-1] + 1])  # and one token more, which was drawn behind the guess
        guesser.learn(len(expected), len(expected), len(ids))


def test_a_guess_that_was_partly_right_makes_the_next_one_as_long_as_it_was_right():
    guesser, ids = Guesser(most=8), array("i", [*TEXT, 12, 13, 14])
    assert len(guesser.guess(ids, 8)) == 3
    ids.extend([15, 16, 1, 20, 21, 22])
    guesser.learn(3, 2, len(ids) - 3)
    assert guesser.guess(ids, 8) == (23, 24)


def test_wrong_guesses_come_ever_more_rarely():
    guesser, ids = Guesser(most=4), array("i", [1, 1, 1])
    guesses_at = []
    for _ in range(2000):
        ids.append(1)  # looks predictable every time
        if guesser.guess(ids, 4):
            guesses_at.append(len(ids))
            guesser.learn(1, 0, len(ids))
    pauses = [later - earlier for earlier, later in pairwise(guesses_at)]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE


def test_what_repeats_itself_is_guessed_beyond_its_end():
    assert Guesser(most=3).guess(array("i", [7, 7, 7, 7]), 3) == (7, 7, 7)
    assert Guesser(most=3).guess(array("i", [1, 2, 1, 2, 1]), 3) == (2, 1, 2)
