"""Where a model goes, and who leaves for it: decided from numbers, before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.errors import OutOfMemory
from camelid.models.memory import MemoryNeed
from camelid.runtime.model import Description
from camelid.runtime.placing import Found, Option, Tenant, free_bytes, place
from camelid.settings import ModelSettings
from camelid.store.local import ModelFiles

GIB = 2**30
NEED = MemoryNeed(weight_bytes=4 * GIB, page_bytes=2**20)  # 32 tokens in a MiB


@pytest.fixture
def found(cria: Description) -> Found:
    spec = replace(cria.spec, context_length=131072)
    return Found(ModelFiles("new", Path("new.gguf")), "", spec, 1, (Option("cpu", NEED, 16 * GIB),), ModelSettings())


def tenant(name: str, size: int, *, may_leave: bool = True, device: str = "cpu") -> Tenant:
    return Tenant(name, device, size, 16 * GIB, may_leave)


def test_a_model_that_fits_beside_the_others_displaces_nobody(found: Found) -> None:
    placement = place(found, [tenant("a", 4 * GIB)])
    assert placement.leaving == ()
    assert placement.description.sizing.memory_bytes <= 12 * GIB


def test_what_was_promised_to_others_is_not_given_away_again(found: Found) -> None:
    alone = place(found).description.sizing
    beside = place(found, [tenant("a", 6 * GIB)]).description.sizing
    assert (alone.num_pages, beside.num_pages) == (3 * 1024, 1536)  # a quarter of 12 GiB, and of 6


def test_no_more_models_leave_than_are_needed(found: Found) -> None:
    tenants = [tenant("oldest", 5 * GIB), tenant("older", 5 * GIB), tenant("latest", 5 * GIB)]
    assert place(found, tenants).leaving == ("oldest",)


def test_idle_models_leave_rather_than_squeeze_the_context_of_a_newcomer(found: Found) -> None:
    tenants = [tenant("old", 6 * GIB), tenant("young", int(5.5 * GIB))]  # 0.5 GiB would be left for the cache
    placement = place(found, tenants)
    assert placement.leaving == ("old",)
    assert placement.description.sizing.context_length >= 8192


def test_a_squeezed_context_is_better_than_none_and_nobody_leaves_in_vain(found: Found) -> None:
    option = replace(found.options[0], free_bytes=9 * GIB // 2)
    idle = replace(tenant("idle", 2**20), vacant_bytes=9 * GIB // 2)
    placement = place(replace(found, options=(option,)), [idle])
    assert placement.leaving == ()
    assert 512 <= placement.description.sizing.context_length < 131072


def test_models_in_use_never_leave(found: Found) -> None:
    tenants = [tenant("busy", 14 * GIB, may_leave=False), tenant("idle", 2 * GIB)]
    with pytest.raises(OutOfMemory, match="the model needs"):
        place(found, tenants)


def test_the_most_models_are_kept_by_sending_the_oldest_away(found: Found) -> None:
    tenants = [tenant("old", 1), tenant("young", 1)]
    assert place(found, tenants, most_models=2).leaving == ("old",)
    busy = [replace(one, may_leave=False) for one in tenants]
    with pytest.raises(OutOfMemory, match="2 models are loaded, which is the most"):
        place(found, busy, most_models=2)


def test_a_second_device_is_taken_before_anybody_leaves(found: Found) -> None:
    options = (Option("gpu", NEED, 2 * GIB), Option("cpu", NEED, 16 * GIB))
    placement = place(replace(found, options=options), [tenant("a", 9 * GIB, device="gpu")])
    assert (placement.description.settings.device, placement.leaving) == ("cpu", ())


def test_what_leaves_a_gpu_gives_its_memory_back(found: Found) -> None:
    options = (Option("gpu", NEED, 2 * GIB),)
    placement = place(replace(found, options=options), [tenant("a", 9 * GIB, device="gpu")])
    assert placement.leaving == ("a",)
    assert placement.description.sizing.memory_bytes <= 11 * GIB


@given(st.integers(0, 64), st.integers(0, 64), st.lists(st.integers(0, 16), max_size=4))
def test_free_memory_is_within_its_bounds(free: int, vacant: int, promises: list[int]) -> None:
    tenants = [tenant(str(index), size) for index, size in enumerate(promises)]
    found = free_bytes(Option("cpu", NEED, free), vacant, tenants, [])
    assert max(0, free - sum(promises)) <= found <= free
