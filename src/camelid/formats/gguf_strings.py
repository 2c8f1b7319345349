"""Where each string of a GGUF array lies.

An array of strings is a chain: 8 bytes of length, the text, the next length. Only by following it is string i found,
and a vocabulary with its merges has 400,000 of them. So this file leaps: text has no zero bytes and a length has at
least six, hence the ends of runs of zeros are where texts begin, which numpy finds at once; a run of leaps counts only
where each length leads exactly to the next. What does not fit that picture is walked, string by string.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

MAX_ARRAY_STRING_BYTES = (64 << 10) - 1  # so that a length has six zero bytes
LEAP_BYTES = 64 << 10
WALK_STRINGS = 1024  # takes about as long as a leap, so that in the worst case leaping in vain doubles the time

_read_length = struct.Struct("<Q").unpack_from


def locate_strings(data: NDArray[np.uint8], start: int, count: int) -> NDArray[np.int64]:
    """Return the bounds of the strings: string i is data[bounds[i] : bounds[i + 1] - 8].

    `start` is where the length of the first string lies; `count` is at most len(data) / 8. The result is shorter than
    count + 1 when a string is too long or reaches beyond the data: the first such string is the one after the last
    found.
    """
    bounds = np.empty(count + 1, dtype=np.int64)
    bounds[0], found = start + 8, 0
    while found < count:
        num_wanted = count - found
        at = int(bounds[found]) - 8
        run = _leap(data, at, num_wanted) if num_wanted > WALK_STRINGS else []
        run = run if len(run) else _walk(data, at, min(num_wanted, WALK_STRINGS))
        if len(run) == 0:
            break
        bounds[found + 1 : found + 1 + len(run)] = run
        found += len(run)
    return bounds[: found + 1]


def _leap(data: NDArray[np.uint8], at: int, num_wanted: int) -> NDArray[np.int64] | list[int]:
    """Return where the texts after the first begin, as far as the chain can be seen in a window from `at` on."""
    window = data[at : at + LEAP_BYTES]
    if len(window) < 8 or window[2:8].any():
        return []
    filled = np.flatnonzero(window != 0)  # numpy finds bools several times faster than bytes
    texts = filled[1:][np.diff(filled) > 6]
    lengths_at = np.concatenate([[0], texts[texts > 8] - 8])
    ends = lengths_at + 8 + window[lengths_at] + (window[lengths_at + 1].astype(np.int64) << 8)
    breaks = np.flatnonzero(ends[:-1] != lengths_at[1:])
    num_sound = breaks[0] if len(breaks) else len(ends) - 1
    texts_at: NDArray[np.int64] = at + 8 + ends[: min(num_sound, num_wanted)]
    return texts_at


def _walk(data: NDArray[np.uint8], at: int, num_wanted: int) -> list[int]:
    """Return where the texts after the first begin, stopping before one that is too long or reaches beyond the data."""
    view, end, starts = data.data, len(data), []
    for _ in range(num_wanted):
        if at + 8 > end:
            break
        num_bytes = _read_length(view, at)[0]
        if num_bytes > MAX_ARRAY_STRING_BYTES or at + 8 + num_bytes > end:
            break
        at += 8 + num_bytes
        starts.append(at + 8)
    return starts
