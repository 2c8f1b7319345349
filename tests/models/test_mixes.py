"""Named quantizations give each weight the type that llama.cpp gives it."""

from __future__ import annotations

from collections import Counter

import pytest

from camelid.errors import InvalidRequest
from camelid.formats.blocks import row_bytes
from camelid.models.mixes import MIXES, block_type, find_mix
from camelid.models.shapes import shape_spec
from camelid.models.spec import Weight
from camelid.models.weights import Slot, all_slots


def census(shape: str, quant: str) -> dict[str, int]:
    spec = shape_spec(shape)
    return dict(Counter(block_type(find_mix(quant), spec, slot).name for slot in all_slots(spec)))


@pytest.mark.parametrize(
    ("shape", "quant", "expected"),
    [
        # The counts that llama.cpp prints for the published files, less one F32: their rope divisors.
        ("1b", "Q4_K_M", {"F32": 33, "Q4_K": 96, "Q6_K": 17}),
        ("3b", "Q4_K_M", {"F32": 57, "Q4_K": 168, "Q6_K": 29}),
        ("8b", "Q4_K_M", {"F32": 65, "Q4_K": 193, "Q6_K": 33}),
        ("8b", "Q5_K_M", {"F32": 65, "Q5_K": 193, "Q6_K": 33}),
        ("70b", "Q4_K_M", {"F32": 161, "Q4_K": 441, "Q5_K": 40, "Q6_K": 81}),
        ("8b", "Q4_K_S", {"F32": 65, "Q4_K": 217, "Q5_K": 8, "Q6_K": 1}),
        ("8b", "Q4_0", {"F32": 65, "Q4_0": 225, "Q6_K": 1}),
        ("8b", "Q8_0", {"F32": 65, "Q8_0": 226}),
        ("1b", "F16", {"F32": 33, "F16": 113}),
    ],
)
def test_counts_of_types_equal_those_of_published_files(shape: str, quant: str, expected: dict[str, int]) -> None:
    assert census(shape, quant) == expected


def test_weights_of_the_8b_in_q4_k_m_take_what_the_published_file_takes() -> None:
    spec = shape_spec("8b")
    weight_bytes = sum(
        (slot.shape[0] if len(slot.shape) > 1 else 1)
        * row_bytes(block_type(MIXES["Q4_K_M"], spec, slot), slot.shape[-1])
        for slot in all_slots(spec)
    )

    # 4,920,734,272 bytes, of which the header with its vocabulary is 7.8 MB
    assert 4_912_000_000 < weight_bytes < 4_914_000_000


def test_rows_that_fill_no_block_fall_back_to_types_that_they_fill() -> None:
    spec = shape_spec("8b")

    assert block_type(MIXES["Q4_K_M"], spec, Slot(Weight.GATE, 0, False, (64, 288))).name == "Q8_0"
    assert block_type(MIXES["Q4_K_M"], spec, Slot(Weight.GATE, 0, False, (64, 40))).name == "F16"


def test_names_are_found_in_either_case_and_others_refused() -> None:
    assert find_mix("q4_k_m") is MIXES["Q4_K_M"]
    with pytest.raises(InvalidRequest, match="no quantization is called 'Q9'") as caught:
        find_mix("Q9")
    assert caught.value.hint == f"use one of {', '.join(MIXES)}"
