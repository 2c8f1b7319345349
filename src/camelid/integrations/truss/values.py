"""Bodies and results of a user's class: JSON, or msgpack with the extensions of Truss's clients.

What comes in keeps its kind here (an array stays an array), unlike for our own `predict`, which takes plain numbers.
Arrays of Python objects are refused: reading one would run code.
"""

from __future__ import annotations

import json
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np
import pydantic

from camelid.errors import InvalidRequest

MAX_DEPTH = 64


def read(body: bytes, kind: type[pydantic.BaseModel] | None, *, is_binary: bool) -> Any:
    """Return the inputs that a body writes, as `kind` where there is one. Raises InvalidRequest in Truss's words."""
    try:
        value = _unpacked(msgspec.msgpack.decode(body, strict=False), MAX_DEPTH) if is_binary else json.loads(body)
        return value if kind is None else kind.model_validate(value)
    except pydantic.ValidationError as error:
        raise InvalidRequest(_told(error)) from error
    except json.JSONDecodeError as error:
        told = f"Invalid JSON payload: {error}" if kind is None else f"Input Parsing Error:\n  `__root__`: {error}."
        raise InvalidRequest(told) from error
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, InvalidOperation, RecursionError) as error:
        raise InvalidRequest(f"Invalid payload: {error}") from error


def write(result: Any, *, is_binary: bool) -> bytes:
    """Return a result as a body. Raises TypeError for what neither form has."""
    if isinstance(result, pydantic.BaseModel):
        return _packed(result.model_dump()) if is_binary else result.model_dump_json().encode()
    if is_binary:
        return result if isinstance(result, bytes) else _packed(result)
    return json.dumps(result, default=_plain).encode()


def _packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(_to_pack(value, MAX_DEPTH))


def _to_pack(value: Any, depth: int) -> Any:
    """Return a value with dates, decimals and arrays as the maps that Truss's clients read."""
    if depth == 0:
        raise TypeError(f"a result must be nested at most {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {key: _to_pack(one, depth - 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_pack(one, depth - 1) for one in value]
    match value:
        case np.ndarray() if value.dtype.kind in "biufc":
            return {
                b"nd": True,
                b"type": value.dtype.str,
                b"kind": b"",
                b"shape": value.shape,
                b"data": value.tobytes(),
            }
        case np.generic() if value.dtype.kind in "biufc":
            return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
        case datetime():
            return {b"__dt_datetime_iso__": True, b"data": value.isoformat().replace("+00:00", "Z")}
        case date():
            return {b"__dt_date_iso__": True, b"data": value.isoformat()}
        case time():
            return {b"__dt_time_iso__": True, b"data": value.isoformat()}
        case timedelta():
            return {b"__dt_timedelta__": True, b"data": (value.days, value.seconds, value.microseconds)}
        case Decimal():
            return {b"__decimal__": True, b"data": str(value)}
        case uuid.UUID():
            return {b"__uuid__": True, b"data": str(value)}
    return value


_READERS: dict[bytes, Any] = {
    b"__dt_datetime_iso__": datetime.fromisoformat,
    b"__dt_date_iso__": date.fromisoformat,
    b"__dt_time_iso__": time.fromisoformat,
    b"__dt_timedelta__": lambda parts: timedelta(*parts),
    b"__decimal__": Decimal,
    b"__uuid__": uuid.UUID,
}


def _unpacked(value: Any, depth: int) -> Any:
    if depth == 0:
        raise ValueError(f"the body must be nested at most {MAX_DEPTH} levels deep")
    if isinstance(value, list):
        return [_unpacked(one, depth - 1) for one in value]
    if not isinstance(value, dict):
        return value
    if b"nd" in value:
        return _array(value)
    for mark, reader in _READERS.items():
        if mark in value:
            return reader(value[b"data"])
    return {key: _unpacked(one, depth - 1) for key, one in value.items()}


def _array(value: dict[Any, Any]) -> Any:
    kind = np.dtype(value[b"type"])
    if kind.kind not in "biufc":
        raise ValueError("unsupported payload")
    flat = np.frombuffer(value[b"data"], dtype=kind)
    return flat.reshape(value[b"shape"]) if value[b"nd"] is True else flat[0]


def _plain(value: Any) -> Any:
    if isinstance(value, (np.integer, np.floating, np.ndarray)):
        return value.tolist()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _told(error: pydantic.ValidationError) -> str:
    """Return what does not fit, a line for each field."""
    found = error.errors(include_url=False, include_input=False)
    head = "Input Parsing Error:" if len(found) == 1 else "Input Parsing Errors:"
    return "\n".join([head, *(f"  `{_place(one['loc'])}`: {one['msg']}." for one in found)])


def _place(parts: tuple[int | str, ...]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
