"""What a newcomer may take over: only what is computed, and never its last token."""

from camelid.backends.base import PAGE_TOKENS
from camelid.engine.pages import PagePool
from camelid.engine.prefix import Prefix, find_prefix
from camelid.engine.request import GenerateRequest
from camelid.engine.sequence import Sequence
from camelid.types import Sampling

LENGTH = 2 * PAGE_TOKENS + 9


def choices(length: int = LENGTH) -> list[Sequence]:
    asked = GenerateRequest("r", tuple(range(length)), Sampling(), 10, num_choices=2)
    return [Sequence(asked, choice, 0, 200) for choice in range(2)]


def computed(sequence: Sequence, pool: PagePool, num_tokens: int) -> Sequence:
    """Return the sequence as it is when its first `num_tokens` are computed."""
    sequence.pages = pool.take(-(-num_tokens // PAGE_TOKENS))
    sequence.num_computed = num_tokens
    for page in range(num_tokens // PAGE_TOKENS):
        pool.register(sequence.pages[page], sequence.digest(page))
    return sequence


def test_nothing_is_found_at_first():
    assert find_prefix(choices()[0], PagePool(9), []) == Prefix((), 0, True)


def test_full_pages_are_found_by_their_content():
    pool = PagePool(9)
    first, second = choices()
    first = computed(first, pool, LENGTH - 2)
    assert find_prefix(second, pool, []) == Prefix(tuple(first.pages[:2]), 2 * PAGE_TOKENS, True)


def test_another_choice_lends_its_last_page_too():
    pool = PagePool(9)
    first, second = choices()
    first = computed(first, pool, LENGTH - 1)
    assert find_prefix(second, pool, [first]) == Prefix(tuple(first.pages), LENGTH - 1, False)


def test_another_choice_lends_nothing_before_it_has_computed_the_prompt():
    pool = PagePool(9)
    first, second = choices()
    first = computed(first, pool, LENGTH - 2)
    assert find_prefix(second, pool, [first]).num_tokens == 2 * PAGE_TOKENS


def test_another_choice_lends_nothing_while_its_own_page_is_still_to_be_copied():
    pool = PagePool(9)
    first, second = choices()
    first = computed(first, pool, LENGTH - 1)
    first.page_copy = (8, first.pages[-1])
    assert find_prefix(second, pool, [first]).num_tokens == 2 * PAGE_TOKENS


def test_another_request_lends_only_what_is_found_by_content():
    pool = PagePool(9)
    first = computed(choices()[0], pool, LENGTH - 1)
    assert find_prefix(choices()[0], pool, [first]).num_tokens == 2 * PAGE_TOKENS


def test_the_last_token_is_left_to_compute_when_all_pages_are_found():
    pool = PagePool(9)
    first, second = choices(2 * PAGE_TOKENS)
    first = computed(first, pool, 2 * PAGE_TOKENS)
    assert find_prefix(second, pool, []) == Prefix(tuple(first.pages), 2 * PAGE_TOKENS - 1, True)


def test_a_page_is_not_found_behind_another_beginning():
    pool = PagePool(9)
    asked = GenerateRequest("other", (99, *range(1, LENGTH)), Sampling(), 10)
    computed(choices()[0], pool, LENGTH - 1)
    assert find_prefix(Sequence(asked, 0, 1, 200), pool, []).num_tokens == 0
