"""JSON from outside, parsed without surprises: bounded, no key twice, no NaN, an object at the top.

Both the header of a safetensors file and a model's config.json come through here. It knows no field of either.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from camelid.errors import FormatError

from .mapping import map_file

MAX_CONFIG_BYTES = 16 << 20
# Brackets, braces and commas bound how many Python objects the text can become; 65,536 tensors take half of this.
MAX_STRUCTURE = 1 << 20


def load_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises NotFound, or FormatError for anything but a sane object."""
    data = map_file(path)
    if len(data) > MAX_CONFIG_BYTES:
        raise FormatError(path, "size", len(data), f"at most {MAX_CONFIG_BYTES} bytes are read")
    return parse_json(path, "content", data.tobytes())


def parse_json(path: Path, field: str, raw: bytes) -> dict[str, Any]:
    """Return the object in `raw`, which is the `field` of the file at `path`. Raises FormatError."""
    structure = sum(raw.count(mark) for mark in (b"{", b"[", b","))
    if structure > MAX_STRUCTURE:
        raise FormatError(path, f"number of elements of the {field}", structure, f"at most {MAX_STRUCTURE} are read")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in raw:  # an escape can be half of a surrogate pair, which is no text: encoding refuses it
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # what is no UTF-8 or no JSON is a ValueError
        raise FormatError(path, field, raw[:40], f"it must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(path, field, type(value).__name__, "it must be a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise ValueError(f"the key {key[:80]!r} stands twice in an object")
        unique[key] = value
    return unique


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")
