"""Pages are neither leaked nor given out twice, and what is found holds what it says."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from camelid.engine.pages import ROOT, PagePool, chain_digest


def digest(*numbers: int) -> bytes:
    return chain_digest(ROOT, bytes(numbers))


class Pool(RuleBasedStateMachine):
    """Random holders take, share, register and give back; a plain list of holdings says what must be true."""

    @initialize(num_pages=st.integers(1, 12))
    def open(self, num_pages):
        self.pool = PagePool(num_pages)
        self.holdings: list[list[int]] = []
        self.content: dict[int, bytes] = {}  # what a page was last registered as, until it is taken anew

    @rule(data=st.data())
    def take(self, data):
        count = data.draw(st.integers(0, self.pool.num_available))
        held = {page for holding in self.holdings for page in holding}
        pages = self.pool.take(count)
        assert len(set(pages)) == count
        assert held.isdisjoint(pages)
        for page in pages:
            self.content.pop(page, None)
        self.holdings.append(pages)

    @precondition(lambda self: self.holdings)
    @rule(data=st.data())
    def give_back(self, data):
        holding = self.holdings.pop(data.draw(st.integers(0, len(self.holdings) - 1)))
        self.pool.give_back(holding)

    @precondition(lambda self: any(self.holdings))
    @rule(data=st.data(), number=st.integers(0, 15))
    def register(self, data, number):
        page = data.draw(st.sampled_from([page for holding in self.holdings for page in holding]))
        if page not in self.content:
            if self.pool.find(digest(number)) is None:
                self.content[page] = digest(number)
            self.pool.register(page, digest(number))

    @rule(numbers=st.sets(st.integers(0, 15)))
    def share_what_is_found(self, numbers):
        pages = [page for number in sorted(numbers) if (page := self.pool.find(digest(number))) is not None]
        available = self.pool.num_available - self.pool.count_idle(pages)
        self.pool.share(pages)
        assert self.pool.num_available == available
        self.holdings.append(pages)

    @invariant()
    def every_page_is_accounted_for(self):
        if hasattr(self, "pool"):
            holders = Counter(page for holding in self.holdings for page in holding)
            assert self.pool._holders == [holders[page] for page in range(self.pool.num_pages)]
            assert self.pool.num_held == len(holders)
            assert self.pool.num_held + self.pool.num_available == self.pool.num_pages
            assert {*self.pool._free, *self.pool._idle} == set(range(self.pool.num_pages)) - set(holders)

    @invariant()
    def what_is_found_was_registered_so(self):
        if hasattr(self, "pool"):
            for number in range(16):
                page = self.pool.find(digest(number))
                assert page is None or self.content[page] == digest(number)

    def teardown(self):
        if hasattr(self, "pool"):
            for holding in self.holdings:
                self.pool.give_back(holding)
            assert self.pool._holders == [0] * self.pool.num_pages
            assert sorted(self.pool.take(self.pool.num_pages)) == list(range(self.pool.num_pages))


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_page_that_nobody_holds_is_still_found_until_its_place_is_needed():
    pool = PagePool(2)
    first, second = pool.take(2)
    pool.register(first, digest(1))
    pool.give_back([first, second])
    assert pool.find(digest(1)) == first
    assert pool.take(1) == [second]  # an empty page goes first
    assert pool.find(digest(1)) == first
    assert pool.take(1) == [first]
    assert pool.find(digest(1)) is None


def test_the_page_unused_for_longest_is_evicted_first():
    pool = PagePool(3)
    a, b, c = pool.take(3)
    for page, number in ((a, 1), (b, 2), (c, 3)):
        pool.register(page, digest(number))
    pool.give_back([b])
    pool.give_back([a])
    pool.give_back([c])
    pool.share([b])  # used again
    pool.give_back([b])
    assert [pool.take(1)[0] for _ in range(3)] == [a, c, b]


def test_of_one_sequence_the_last_page_is_evicted_first():
    pool = PagePool(3)
    pages = pool.take(3)
    for number, page in enumerate(pages):
        pool.register(page, digest(number))
    pool.give_back(pages)
    assert pool.take(3) == pages[::-1]


def test_the_same_content_in_two_pages_is_found_in_the_first():
    pool = PagePool(2)
    first, second = pool.take(2)
    pool.register(first, digest(7))
    pool.register(second, digest(7))
    assert pool.find(digest(7)) == first
    pool.give_back([second])
    assert pool.num_idle == 0  # it is of no use to anyone


def test_giving_back_twice_is_a_mistake_that_is_noticed():
    pool = PagePool(2)
    pages = pool.take(1)
    pool.give_back(pages)
    with pytest.raises(AssertionError):
        pool.give_back(pages)


def test_a_digest_depends_on_the_page_and_on_all_before_it():
    first, other = chain_digest(ROOT, b"abcd"), chain_digest(ROOT, b"abce")
    assert len({first, other, chain_digest(first, b"abcd"), chain_digest(other, b"abcd")}) == 4
    assert chain_digest(ROOT, b"abcd") == first
