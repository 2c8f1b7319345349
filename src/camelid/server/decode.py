"""From the bytes of a body to a typed value, strictly, for all dialects.

A dialect declares its bodies as msgspec structs that forbid unknown fields; what does not fit is refused with a
sentence that names the field. Nothing here knows what the fields mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from camelid.errors import Cancelled, InvalidRequest
from camelid.types import Sampling

from .limits import Limits

Body = TypeVar("Body", bound=msgspec.Struct)

_PLACE = re.compile(r"^(?P<what>.*) - at (?:`key` in )?`\$\.?(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_BYTE = re.compile(r"\(byte (\d+)\)$")
_NOT_FINITE = re.compile(rb'"(?P<name>\w{1,64})"\s*:\s*(?P<value>-?(?:NaN|Infinity))\Z')
_WORDS = {
    "`": "",
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body, or refuse it with 413 as soon as it is known to be too large:

    from its announced length, if there is one.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.body_bytes:
                raise _too_large(limits)
    except ClientDisconnect as gone:
        raise Cancelled("the client left before its request was complete") from gone
    return bytes(body)


def decode_value(body: bytes) -> Any:
    """Return what JSON writes, of whatever kind. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise _malformed(str(error), body) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("the body is not valid UTF-8") from error
    except RecursionError as error:
        raise InvalidRequest("the body is nested too deeply") from error


def decode(body: bytes, decoder: msgspec.json.Decoder[Body]) -> Body:
    """Return the typed value of `body`. Raises InvalidRequest naming the field."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), decoder.type) from error
    except msgspec.DecodeError as error:
        raise _malformed(str(error), body) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("the body is not valid UTF-8") from error
    except RecursionError as error:
        raise InvalidRequest("the body is nested too deeply") from error


def convert(value: object, kind: Any, place: str) -> Any:
    """Return `value`, the decoded JSON at `place` of a body, as the type `kind`. Raises InvalidRequest.

    For what a decoder cannot tell apart by itself, as a union whose tag may be left out.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        struct = kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None
        raise _invalid(str(error), struct, place) from error


def check_depth(value: object, most: int, field: str) -> None:
    """Refuse a free-form value that is nested deeper than `most` levels. Level by level, so that no depth can hurt."""
    level: list[object] = [value]
    for _ in range(most + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise InvalidRequest(f"{field} must be nested at most {most} levels deep", field=field)


def _children(value: object) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(413, f"the body must have at most {limits.body_bytes} bytes")


def _invalid(text: str, struct: type[msgspec.Struct] | None, within: str = "") -> InvalidRequest:
    """Say in our words what msgspec says in its own. `within`: where in the body the value stands."""
    place = _PLACE.match(text)
    what, path = (place["what"], place["path"]) if place else (text, "")
    path = f"{within}.{path}" if within and path else path or within
    if unknown := _UNKNOWN.match(what):
        field = f"{path}.{unknown['name']}" if path else unknown["name"]
        return InvalidRequest(
            f"unknown field {field!r}", field=field, hint=_did_you_mean(unknown["name"], struct, path)
        )
    if missing := _MISSING.match(what):
        field = f"{path}.{missing['name']}" if path else missing["name"]
        return InvalidRequest(f"{field} is required", field=field)
    if what == "Number out of range":
        return _not_finite(path, "a number beyond all bounds")
    return InvalidRequest(f"{path or 'the body'}: {_plain(what)}", field=path or None)


def _malformed(text: str, body: bytes) -> InvalidRequest:
    """Say where the JSON breaks; NaN and Infinity, which are not JSON, are named with their field."""
    byte = _BYTE.search(text)
    start = int(byte[1]) if byte else len(body)
    for end in (start + 3, start + 8, start + 9):
        found = _NOT_FINITE.search(body[max(0, start - 100) : end])
        if found:
            return _not_finite(found["name"].decode(), found["value"].decode())
    why = text.removeprefix("JSON is malformed: ")
    return InvalidRequest(f"the body is not valid JSON: {why[:1].lower()}{why[1:]}")


def _not_finite(name: str, value: str) -> InvalidRequest:
    """Refuse `value`, with the range that `name` has where it is one of the numbers of sampling."""
    if isinstance(getattr(Sampling(), name, None), (int, float)):
        impossible: dict[str, Any] = {name: math.nan}
        try:
            Sampling(**impossible)
        except InvalidRequest as error:
            return InvalidRequest(error.message.replace("got nan", f"got {value}"), field=name)
    return InvalidRequest(f"{name} must be a finite number, got {value}", field=name)


def _did_you_mean(name: str, struct: type[msgspec.Struct] | None, path: str) -> str | None:
    known = struct.__struct_fields__ if struct is not None and not path else ()
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else None


def _plain(what: str) -> str:
    """Turn "Expected `int | null`, got `str`" into "expected a whole number, got a string"."""

    def words(match: re.Match[str]) -> str:
        kinds = [_WORDS.get(kind, kind) for kind in match[1].split(" | ") if kind != "null"]
        return " or ".join(kinds) or "null"

    return re.sub(r"`([^`]*)`", words, what[:1].lower() + what[1:])
