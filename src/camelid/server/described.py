"""How routes whose bodies we read and write ourselves get into the OpenAPI document.

FastAPI sees neither: a dialect says with each route which struct describes its body and which one its reply, and the
schemas of all structs are made when the document is asked for. Names of one dialect do not get into another's way,
because each has a prefix of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

Struct = type[msgspec.Struct]


class Octets:
    """A body that is a file."""


OCTETS = Octets()
Handler = Callable[..., Awaitable[Response]]
_PATH = "#/components/schemas/"
_BOUNDED = ("integer", "number", "array")  # types whose keywords stand in `Rules.bounds`


@dataclass(frozen=True)
class Rules:
    """What a type cannot say of a field: the bounds of a number or a list, and which values are taken at all.

    bounds: by a field's name, keywords of JSON schema. refused and neutral: fields that are declared as free-form so
    that their refusal can say why (see `bodies.Refused`), with the values that are taken where there are some. kinds:
    schemas of other free-form fields, whose refusals have words of their own.
    """

    bounds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: Collection[str] = ()
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def tell(self, schema: dict[str, Any]) -> None:
        """Write into the schema of an object what is known of its fields."""
        properties = schema.get("properties", {})
        for name in [name for name, one in properties.items() if _is_free(one)]:
            if name in self.neutral:
                properties[name] = {"enum": [*self.neutral[name], None]}
            elif name in self.kinds:
                properties[name] = dict(self.kinds[name])
            elif name in self.refused:
                del properties[name]
        for name, bounds in self.bounds.items():
            for one in _alternatives(properties.get(name, {})):
                if one.get("type") in _BOUNDED:
                    one.update(bounds)


@dataclass(frozen=True)
class Describer:
    """Adds the routes of one dialect. error: the struct of its envelope; streams: the media type of its streams."""

    prefix: str
    error: Struct
    streams: str
    rules: Rules = Rules()

    def add(
        self,
        routes: APIRouter,
        method: str,
        path: str,
        handler: Handler,
        *,
        body: Struct | Octets | None = None,
        reply: Struct | None = None,
        has_stream: bool = False,
        created: str = "",
        query: Iterable[dict[str, Any]] = (),
    ) -> None:
        """Add a route with what it takes and what it answers; without `reply` the answer has no body.

        created: what 201 says, where that is an answer.
        """
        extra: dict[str, Any] = {"parameters": list(query)} if query else {}
        if body is not None:
            extra["requestBody"] = {"required": True, "content": self._content(body)}
        content = {} if reply is None else {"application/json": {"schema": self._ref(reply)}}
        if has_stream:
            content[self.streams] = {"schema": {"type": "string"}}
        refused = {"application/json": {"schema": self._ref(self.error)}}
        answers: dict[int | str, dict[str, Any]] = {
            200: {"description": "answered", "content": content},
            "4XX": {"description": "refused; the body says why", "content": refused},
            503: {"description": "not now; `retry-after` says when to come back", "content": refused},
        }
        if created:
            answers[201] = {"description": created}
        routes.add_api_route(
            path, handler, methods=[method], openapi_extra=extra, responses=answers, response_class=Response
        )

    def components(self, structs: Iterable[Struct]) -> dict[str, Any]:
        """Return the schemas of the structs and of all that they hold, by name."""
        ref_template = f"{_PATH}{self.prefix}{{name}}"
        found = msgspec.json.schema_components([*structs, self.error], ref_template=ref_template)[1]
        for schema in found.values():
            self.rules.tell(schema)
        return {f"{self.prefix}{name}": schema for name, schema in found.items()}

    def _content(self, body: Struct | Octets) -> dict[str, Any]:
        if isinstance(body, Octets):
            return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        return {"application/json": {"schema": self._ref(body)}}

    def _ref(self, struct: Struct) -> dict[str, str]:
        return {"$ref": f"{_PATH}{self.prefix}{struct.__name__}"}


def _is_free(schema: Mapping[str, Any]) -> bool:
    return not schema.keys() - {"default"}


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    several: list[dict[str, Any]] = schema.get("anyOf", [schema])
    return several


def query_field(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a field of a query."""
    return {"name": name, "in": "query", "required": False, "schema": schema}
