"""Who stays in memory, until when, and who makes room first. The time is a number."""

from __future__ import annotations

import math

from camelid.runtime.residents import ARRIVAL_S, Residents


def test_a_model_leaves_its_time_after_the_last_request_has_ended() -> None:
    residents = Residents()
    residents.add("a", 300.0, 0.0)
    residents.ask("a", None, 10.0)
    residents.begin("a", 11.0)
    assert residents.due(1e9) == []  # in use
    residents.end("a", 50.0)
    assert residents.leaves_at_s("a", 60.0) == residents.next_due_s(60.0) == 350.0
    assert (residents.due(349.9), residents.due(350.0)) == ([], ["a"])


def test_each_request_sets_the_time_anew() -> None:
    residents = Residents()
    residents.add("a", 300.0, 0.0)
    for now_s, asked_s, leaves_s in ((0.0, 60.0, 60.0), (1.0, math.inf, math.inf), (2.0, None, 302.0), (3.0, 0.0, 3.0)):
        residents.ask("a", asked_s, now_s)
        residents.begin("a", now_s)
        residents.end("a", now_s)
        assert residents.leaves_at_s("a", now_s) == leaves_s


def test_a_model_that_was_asked_for_waits_for_the_request_but_not_for_ever() -> None:
    residents = Residents()
    residents.add("a", 0.0, 0.0)
    residents.ask("a", 0.0, 5.0)  # the client leaves before its request begins
    assert residents.due(5.0) == []
    assert residents.by_age(5.0) == [("a", False)]
    assert residents.due(5.0 + ARRIVAL_S) == ["a"]
    assert residents.by_age(5.0 + ARRIVAL_S) == [("a", True)]


def test_a_model_released_while_it_is_used_leaves_with_its_last_request() -> None:
    residents = Residents()
    residents.add("a", math.inf, 0.0)
    residents.begin("a", 1.0)
    residents.begin("a", 2.0)
    residents.release("a")
    residents.end("a", 3.0)
    assert (residents.num_requests("a"), residents.due(3.0)) == (1, [])
    residents.end("a", 4.0)
    assert residents.due(4.0) == ["a"]


def test_the_one_unused_for_longest_makes_room_first_and_those_kept_for_ever_last() -> None:
    residents = Residents()
    for name, keep_s, used_s in (("kept", math.inf, 0.0), ("new", 300.0, 9.0), ("old", 900.0, 2.0), ("busy", 1.0, 1.0)):
        residents.add(name, keep_s, used_s)
    residents.begin("busy", 1.0)
    assert residents.by_age(10.0) == [("busy", False), ("old", True), ("new", True), ("kept", True)]


def test_a_request_may_end_after_its_model_has_left() -> None:
    residents = Residents()
    residents.add("a", 1.0, 0.0)
    residents.begin("a", 0.0)
    residents.remove("a")
    residents.end("a", 1.0)
    assert residents.next_due_s(1.0) == math.inf
