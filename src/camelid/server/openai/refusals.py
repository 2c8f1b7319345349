"""How a dialect of OpenAI's says no to a field: by name, with the values that it takes where there are some.

Apart from the routes' own reading of their bodies, because chat and the Responses API refuse in the same words. Knows
no field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from camelid.errors import InvalidRequest


def refuse_fields(
    body: Any, refused: Mapping[str, str | None], neutral: Mapping[str, tuple[Any, ...]], place: str = ""
) -> None:
    """Refuse the fields of one struct that ask for what Camelid does not do.

    refused: fields that no value is taken for, each with what to do instead, if there is something. neutral: fields
    that are taken in some values only. place: where the struct stands in the body. Raises InvalidRequest.
    """
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is None:
            continue
        if name in refused:
            raise InvalidRequest(f"{place}{name} is not supported", field=f"{place}{name}", hint=refused[name])
        if name in neutral and value not in neutral[name]:
            allowed = " or ".join(repr(one) for one in neutral[name])
            raise InvalidRequest(f"{place}{name} must be {allowed}, got {brief(value)}", field=f"{place}{name}")


def brief(value: object) -> str:
    """Return `value` for a message. Containers are only named: they may be large, or nested too deeply to print."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}…"
