"""The store of responses: bounded by number and size, and each response only for who asked for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from camelid.server.openai.responses.store import Kept, ResponseStore
from camelid.types import Message


def kept(number: int, size: int = 1, owner: str = "me") -> Kept:
    return Kept(f"resp_{number}", owner, b"x" * size, (), (Message("user", "hi"),))


def test_a_response_is_there_for_its_owner_and_for_nobody_else() -> None:
    store = ResponseStore(4, 10**6)
    store.put(kept(1))
    assert store.get("resp_1", "me") == kept(1)
    assert store.get("resp_1", "you") is None
    assert not store.remove("resp_1", "you")
    assert store.remove("resp_1", "me")
    assert (store.get("resp_1", "me"), len(store)) == (None, 0)


def test_a_response_that_is_too_large_alone_is_not_kept_and_costs_no_other_its_place() -> None:
    store = ResponseStore(4, 10_000)
    store.put(kept(1))
    store.put(kept(2, size=10_000))
    assert (len(store), store.get("resp_2", "me")) == (1, None)


@given(st.lists(st.tuples(st.sampled_from("pgr"), st.integers(0, 6), st.integers(1, 3000)), max_size=60))
def test_number_and_size_are_bounded_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    store, there = ResponseStore(3, 6000), dict[str, Kept]()
    for step, number, size in steps:
        if step == "p":
            new = kept(len(there) * 10 + number, size)
            store.put(new)
            there[new.id] = new
        elif step == "g":
            store.get(f"resp_{number}", "me")
        else:
            store.remove(f"resp_{number}", "me")
        left = [one for one in there.values() if store.get(one.id, "me") == one]
        assert len(store) == len(left) <= 3
        assert sum(one.size_bytes for one in left) <= 6000
