"""How long a context gets, how many pages there are, and what is said when it does not fit."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from camelid.backends.base import PAGE_TOKENS
from camelid.errors import InvalidSetting, OutOfMemory
from camelid.models.memory import MemoryNeed, num_pages
from camelid.runtime.sizing import Sizing, choose_sizing
from camelid.settings import ModelSettings

MIB, GIB = 2**20, 2**30
NEED = MemoryNeed(weight_bytes=1 * GIB, page_bytes=1 * MIB)  # 32 tokens in a MiB


def test_a_quarter_of_what_is_free_after_the_weights_goes_to_the_cache() -> None:
    assert choose_sizing(NEED, 5 * GIB, 8192, ModelSettings()) == Sizing(8192, 1024, 2 * GIB)


def test_the_cache_is_no_larger_than_all_sequences_can_use() -> None:
    assert choose_sizing(NEED, 5 * GIB, 1024, ModelSettings(max_sequences=2)) == Sizing(1024, 64, GIB + 64 * MIB)


def test_the_context_is_what_the_cache_holds_when_that_is_less_than_the_trained_one() -> None:
    assert choose_sizing(NEED, 5 * GIB, 131072, ModelSettings()) == Sizing(32768, 1024, 2 * GIB)


def test_a_context_that_was_asked_for_may_take_more_than_a_quarter() -> None:
    asked = ModelSettings(context_length=65536)
    assert choose_sizing(NEED, 5 * GIB, 131072, asked) == Sizing(65536, 2048, 3 * GIB)


def test_cache_memory_is_taken_at_its_word() -> None:
    asked = ModelSettings(cache_memory=100 * MIB)
    assert choose_sizing(NEED, 5 * GIB, 131072, asked) == Sizing(3200, 100, GIB + 100 * MIB)


def test_more_context_than_the_model_was_trained_for_is_refused_with_the_bound() -> None:
    with pytest.raises(InvalidSetting, match="context_length must be 1–8192 for this model, got 200000"):
        choose_sizing(NEED, 5 * GIB, 8192, ModelSettings(context_length=200000))


def test_a_context_that_does_not_fit_is_refused_with_the_one_that_would() -> None:
    with pytest.raises(OutOfMemory) as caught:
        choose_sizing(NEED, 3 * GIB, 131072, ModelSettings(context_length=131072))
    assert caught.value.message == (
        "the model needs 1.0 GiB for its weights and 4.0 GiB for a context of 131072 tokens; "
        "3.0 GiB are free, of which 2.0 GiB may go to the cache"
    )
    assert caught.value.hint == "--context-length 65536 would fit"


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OutOfMemory) as caught:
        choose_sizing(NEED, GIB // 2, 8192, ModelSettings())
    assert caught.value.hint == "use a smaller model or a smaller quantization of it"


@given(
    st.integers(1, 2**36), st.integers(1, 2**24), st.integers(0, 2**40), st.integers(1, 2**20),
    st.none() | st.integers(1, 2**20), st.none() | st.integers(1, 2**38), st.integers(1, 64),
)  # fmt: skip
def test_what_is_chosen_always_fits_and_holds_one_context(weights, page, available, trained, context, cache, sequences):
    assume(context is None or context <= trained)
    need = MemoryNeed(weights, page)
    settings = ModelSettings(context_length=context, cache_memory=cache, max_sequences=sequences)
    try:
        chosen = choose_sizing(need, available, trained, settings)
    except OutOfMemory:
        return
    assert chosen.memory_bytes == weights + chosen.num_pages * page <= available
    assert 1 <= chosen.context_length <= trained
    assert context in (None, chosen.context_length)
    assert num_pages(chosen.context_length) <= chosen.num_pages <= sequences * num_pages(chosen.context_length)
    assert cache is None or chosen.num_pages * page <= cache
    assert chosen.num_pages * PAGE_TOKENS >= chosen.context_length
