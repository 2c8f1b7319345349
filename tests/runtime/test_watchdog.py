"""How long silence is believed to be work."""

from __future__ import annotations

from camelid.runtime.watchdog import Patience, StepClock


def clock(warm_step_s: float = 0.001, chunk_tokens: int = 256) -> StepClock:
    return StepClock(Patience(), warm_step_s, chunk_tokens, now=100.0)


def test_ten_seconds_are_believed_of_a_quick_model() -> None:
    quick = clock()
    for step in range(600):
        quick.stepped(0.01, 100.0 + step * 0.01)
    assert quick.limit_s == 10.0


def test_twenty_slow_steps_are_believed_once_they_were_seen() -> None:
    slow = clock()
    slow.stepped(3.0, 103.0)
    assert slow.limit_s == 60.0


def test_one_slow_step_in_many_is_the_percentile_and_a_rarer_one_is_not() -> None:
    mixed = clock()
    for step in range(500):
        mixed.stepped(2.0 if step in (100, 200, 300, 400, 450, 499) else 0.1, 100.0 + step)
    assert mixed.limit_s == 40.0
    for step in range(500):
        mixed.stepped(2.0 if step == 250 else 0.1, 600.0 + step)
    assert mixed.limit_s == 10.0


def test_the_first_prefill_of_a_big_model_is_believed_before_any_step_was_seen() -> None:
    assert clock(warm_step_s=0.5).limit_s == 256.0


def test_silence_beyond_the_limit_is_too_long() -> None:
    hung = clock()
    looks = [hung.is_silent_too_long(100.0 + 0.5 * look, 0.5) for look in range(1, 22)]
    assert looks == [False] * 20 + [True]


def test_a_sign_of_life_starts_the_silence_anew() -> None:
    alive = clock()
    assert not alive.is_silent_too_long(100.5, 0.5)
    alive.signed(109.0)
    assert alive.silence_s(110.0) == 1.0


def test_a_pause_of_the_watching_process_is_not_held_against_the_engine() -> None:
    """A laptop that slept, a front that was stopped: it could not have heard anything."""
    watched = clock()
    assert not watched.is_silent_too_long(100.5, 0.5)
    assert not watched.is_silent_too_long(5000.0, 0.5)
    looks = [watched.is_silent_too_long(5000.0 + 0.5 * look, 0.5) for look in range(1, 21)]
    assert looks[:-2] == [False] * 18
    assert looks[-1]


def looks_until_given_up(clock: StepClock, waits: float) -> int:
    """Return how often the watchdog looks, twice a second, at an engine that waits this share of the time."""
    look = 0
    while not clock.is_silent_too_long(100.0 + 0.5 * look, 0.5, waited_s=0.5 * look * waits):
        look += 1
    return look


def test_an_engine_that_is_not_let_run_is_believed_for_longer_and_not_for_ever() -> None:
    assert looks_until_given_up(clock(), waits=0.0) == 21  # 10 s
    assert looks_until_given_up(clock(), waits=0.5) == 41  # half of the time it could have worked
    assert looks_until_given_up(clock(), waits=4.0) == 221  # its four threads never ran: 10 s and ten times as much


def test_what_was_waited_before_a_sign_of_life_excuses_nothing_after_it() -> None:
    starved = clock()
    assert not starved.is_silent_too_long(100.5, 0.5, waited_s=0.5)
    starved.stepped(0.01, 101.0)
    assert not starved.is_silent_too_long(101.0, 0.5, waited_s=1.0)
    assert starved.silence_s(105.0) == 4.0
