"""The values of GGUF metadata: their types on disk, and arrays that stay there until asked.

Reader and writer share this file. A vocabulary is an array of 128,000 strings and its merges are 280,000 more: as
Python objects they would cost 40 MB and most of the time to open a file, so an array is a sequence over the mapping. It
knows nothing of keys and what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class ValueType(IntEnum):
    """The types of a metadata value, by their number in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


# Scalars as numpy spells them, little-endian. A bool is one byte, 0 or 1.
SCALARS: dict[ValueType, np.dtype[Any]] = {
    ValueType.UINT8: np.dtype("<u1"),
    ValueType.INT8: np.dtype("<i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}


@dataclass(frozen=True)
class Typed:
    """A metadata value with the type that it has, or shall have, in the file; for an array, that of its elements."""

    value_type: ValueType
    value: Any


class NumberArray(Sequence[Any]):
    """An array of numbers or bools: a read-only sequence of Python values over the mapping."""

    def __init__(self, value_type: ValueType, numbers: NDArray[Any]) -> None:
        self.value_type = value_type
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._numbers[index].tolist()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._numbers.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._numbers, dtype=dtype) if copy else np.asarray(self._numbers, dtype=dtype)

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    def __repr__(self) -> str:
        return _describe(self)

    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none


class StringArray(Sequence[str]):
    """An array of strings, already found to be valid UTF-8: a read-only sequence of str over the mapping.

    String i lies from bounds[i] to bounds[i + 1] - 8, since 8 bytes of length stand before each.
    """

    value_type = ValueType.STRING

    def __init__(self, data: memoryview, bounds: NDArray[np.int64]) -> None:
        self._data = data
        self._bounds = bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, end = self._bounds[:-1][index], self._bounds[1:][index] - 8
        return str(self._data[start:end], "utf-8")

    def __iter__(self) -> Iterator[str]:
        if not len(self):
            return iter(())
        first = self._bounds[0]
        span = np.frombuffer(self._data[first : self._bounds[-1] - 8], np.uint8)
        strings = _split(span, self._bounds[1:-1] - first - 8)
        if len(strings) == len(self):
            return iter(strings)
        whole = span.tobytes()  # a string holds a zero byte, so they are cut one by one
        return (whole[start : end - 8].decode() for start, end in pairwise((self._bounds - first).tolist()))

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    def __repr__(self) -> str:
        return _describe(self)

    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none


def _split(span: NDArray[np.uint8], lengths_at: NDArray[np.int64]) -> list[str]:
    """Decode all strings at once, with one zero byte in the place of each length: five times as fast as one by one."""
    texts, keep = span.copy(), np.ones(len(span), np.bool_)
    texts[lengths_at] = 0
    for offset in range(1, 8):
        keep[lengths_at + offset] = False
    return texts[keep].tobytes().decode().split("\0")


def _equal(array: Sequence[Any], other: object) -> bool:
    if not isinstance(other, Sequence) or isinstance(other, str | bytes) or len(array) != len(other):
        return False
    return all(ours == theirs for ours, theirs in zip(array, other, strict=True))


def _describe(array: Sequence[Any]) -> str:
    shown = ", ".join(repr(value) for value in array[:4])
    return f"[{shown}, … {len(array)} in all]" if len(array) > 4 else f"[{shown}]"
