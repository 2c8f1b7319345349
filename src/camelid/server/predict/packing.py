"""From bytes to the value that they write: JSON, or msgpack as Truss's clients pack it.

Those put numbers of numpy, dates, decimals and UUIDs into maps of their own. Numbers become plain ones; the others are
no part of any field here, and stay what they are, to be refused where they stand.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

from camelid.errors import InvalidRequest

from ..decode import convert, decode_value
from .replies import BINARY

Body = TypeVar("Body")
MAX_DEPTH = 64
_MAX_NUMBERS = 2**20  # in one array


def is_binary(content_type: str) -> bool:
    """Tell whether a body is msgpack."""
    return content_type.partition(";")[0].strip().lower() == BINARY


def unpack(body: bytes, *, binary: bool) -> object:
    """Return the value that a body writes. Raises InvalidRequest, for JSON in Truss's words."""
    if binary:
        try:
            return _plain(msgspec.msgpack.decode(body, strict=False), MAX_DEPTH)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise InvalidRequest(f"Invalid msgpack payload: {error}") from error
    try:
        return decode_value(body)
    except InvalidRequest as error:
        raise _in_trusses_words(body, error) from error


def typed(value: object, kind: type[Body]) -> Body:
    """Return a decoded body as the struct `kind`. Raises InvalidRequest naming the field."""
    found: Body = convert(value, kind, "")
    return found


def _in_trusses_words(body: bytes, error: InvalidRequest) -> InvalidRequest:
    """Return what Truss says of bytes that are no JSON: it quotes Python's own parser."""
    try:
        json.loads(body)
    except json.JSONDecodeError as pythons:
        return InvalidRequest(f"Invalid JSON payload: {pythons}")
    except (UnicodeDecodeError, RecursionError):
        pass
    return error


def _plain(value: Any, depth: int) -> Any:
    """Return a value with numpy's numbers and arrays, and decimals, as plain ones."""
    if depth == 0:
        raise InvalidRequest(f"the body must be nested at most {MAX_DEPTH} levels deep")
    if isinstance(value, list):
        return [_plain(one, depth - 1) for one in value]
    if not isinstance(value, dict):
        return value
    if b"nd" in value:
        return _numbers(value)
    if b"__decimal__" in value:
        return _decimal(value.get(b"data"))
    return {_name(key): _plain(one, depth - 1) for key, one in value.items()}


def _name(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


def _decimal(text: Any) -> float:
    try:
        found = float(Decimal(text))
    except (InvalidOperation, TypeError, ValueError) as error:
        raise InvalidRequest(f"a decimal is {text!r}") from error
    if not math.isfinite(found):
        raise InvalidRequest(f"a decimal is {text!r}")
    return found


def _numbers(packed: dict[Any, Any]) -> Any:
    """Return an array or a number of numpy, as msgpack-numpy packs it, as lists and numbers."""
    import numpy as np  # the front does without, but for this

    try:
        kind, data = np.dtype(packed[b"type"]), packed[b"data"]
        if kind.kind not in "biuf" or len(data) > _MAX_NUMBERS * 8:
            raise InvalidRequest(f"arrays must hold numbers, at most {_MAX_NUMBERS}, got {kind}")
        flat = np.frombuffer(data, dtype=kind)
        return flat.reshape(packed[b"shape"]).tolist() if packed[b"nd"] is True else flat[0].item()
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidRequest(f"an array cannot be read: {error}") from error
