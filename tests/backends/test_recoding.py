"""The extension encodes weights to the bytes of numpy's encoders, on every instruction set, from every float type."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from camelid.backends.cpu._native import Processor, available_isas
from camelid.backends.recoding import Recoder
from camelid.errors import InvalidRequest, UnsupportedModel
from camelid.formats.blocks import BlockType, decode, encode

ENCODABLE = [block_type for block_type in BlockType if block_type.is_encodable]
FLOATS = [BlockType.F32, BlockType.F16, BlockType.BF16]
COLUMNS = 256 * 3  # odd, so that the last run is a short one


def weights() -> NDArray[np.float32]:
    """Return rows that meet every branch of the searches: (R, COLUMNS)."""
    chance = np.random.default_rng(1)
    normal = chance.standard_normal((4, COLUMNS))
    groups = chance.standard_normal((COLUMNS // 16, 16)) * 10.0 ** chance.uniform(-12, 4, (COLUMNS // 16, 1))
    rows = [
        *(normal * 0.02),
        *(np.abs(normal[0]), -np.abs(normal[1]), normal[2] * 1e-40, normal[3] * 3e4),
        *(np.zeros(COLUMNS), -np.zeros(COLUMNS), np.full(COLUMNS, -0.5), groups.reshape(-1)),
        np.where(np.arange(COLUMNS) % 32, 0.0, -1.0),
        np.where(np.arange(COLUMNS) // 32 % 3, 0.0, normal[0]),
    ]
    return np.clip(np.array(rows), -60000, 60000).astype(np.float32)


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("new", ENCODABLE, ids=lambda block_type: block_type.name)
def test_the_extension_gives_the_bytes_of_numpy(isa: str, new: BlockType) -> None:
    processor = Processor(2, isa)
    for old in FLOATS:
        rows = encode(weights(), old)
        expected = encode(decode(rows, old), new)
        out = np.empty_like(expected)
        assert processor.encode(rows, old.ggml_id, new.ggml_id, out)
        np.testing.assert_array_equal(out, expected)


def test_a_quantized_source_is_decoded_first() -> None:
    rows = encode(weights(), BlockType.Q8_0)
    expected = encode(decode(rows, BlockType.Q8_0), BlockType.Q4_K)
    np.testing.assert_array_equal(Recoder().recode(rows, BlockType.Q8_0, BlockType.Q4_K), expected)
    assert Recoder().recode(rows, BlockType.Q8_0, BlockType.Q8_0) is rows


def test_without_the_extension_the_bytes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Recoder().encode(weights(), BlockType.Q6_K)
    monkeypatch.setitem(sys.modules, "camelid.backends.cpu._native", None)
    np.testing.assert_array_equal(Recoder().encode(weights(), BlockType.Q6_K), compiled)


@pytest.mark.parametrize("value", [np.nan, np.inf, -70000.0])
def test_a_weight_that_a_type_cannot_hold_is_refused_by_its_value(value: float) -> None:
    rows = np.zeros((40, 512), np.float32)
    rows[39, 511] = value
    with pytest.raises(InvalidRequest, match=f"the value {np.float32(value)} cannot be written as Q4_K"):
        Recoder().encode(rows, BlockType.Q4_K)


def test_what_is_no_whole_block_or_no_written_type_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="a row of 48 weights cannot be Q8_0"):
        Recoder().encode(np.zeros((2, 48), np.float32), BlockType.Q8_0)
    with pytest.raises(UnsupportedModel, match="Q2_K cannot be encoded"):
        Recoder().encode(np.zeros((2, 256), np.float32), BlockType.Q2_K)
    assert Recoder().encode(np.ones((2, 3), np.float32), BlockType.F16).tobytes() == b"\x00\x3c" * 6


@pytest.mark.parametrize(
    ("shape", "old", "new", "out", "said"),
    [
        ((2, 512), 8, 12, (2, 144), "are no floats"),
        ((2, 512), 1, 10, (2, 84), "cannot be encoded"),
        ((2, 514), 1, 12, (2, 144), "no whole number of blocks"),
        ((2, 512), 1, 12, (2, 143), "out must be"),
        ((2, 513), 1, 1, (2, 512), "no whole number of blocks"),
    ],
)
def test_the_door_checks_what_it_is_given(
    shape: tuple[int, int], old: int, new: int, out: tuple[int, int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Processor(1, "portable").encode(np.zeros(shape, np.uint8), old, new, np.zeros(out, np.uint8))
