"""The query of a path, read as strictly as a body: what is not known is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from camelid.errors import InvalidRequest


def refuse_query(request: Request, known: Mapping[str, tuple[str, ...] | None]) -> None:
    """Refuse names that are not `known`, and values that are not among theirs (None: any). Raises InvalidRequest."""
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise InvalidRequest(f"unknown query field {name[:80]!r}", field=name[:80])
        allowed = known[name]
        if allowed is not None and value not in allowed:
            raise InvalidRequest(f"{name} must be {' or '.join(allowed)}, got {value[:80]!r}", field=name)


def read_count(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a number of the query. Raises InvalidRequest unless it is 1–`most`."""
    value = query.get(name, str(default))
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= most:
        raise InvalidRequest(f"{name} must be 1–{most}, got {value[:80]!r}", field=name)
    return int(value)
