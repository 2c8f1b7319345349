"""From the tables to the page: each field is sent, and what happened is written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .anthropic import ANTHROPIC
from .ollama import OLLAMA
from .openai import OPENAI
from .predict import PREDICT
from .probe import Outcome, Prober
from .responses import RESPONSES
from .shapes import Route, Shape

DIALECTS = (OPENAI, RESPONSES, ANTHROPIC, OLLAMA, PREDICT)
GENERATED = "<!-- written by python -m tools.compatibility: change the code, not this page -->\n\n"
INTRODUCTION = (
    "# Compatibility\n\n"
    "Every route of the four dialects, and every field of their bodies. This page is found out, not written: each\n"
    "field was sent to the server, and the third column says what happened. *Honoured*: it changed what the model was\n"
    "asked or how the answer is written. *Accepted*: it changed nothing, for the reason that is given. *Refused*: the\n"
    "answer was 400 with a sentence that names the field. There is no fourth way: a field that is not in a table is\n"
    "refused, too, as unknown (but by Ollama's routes, which pass over what they do not know, as Ollama does).\n\n"
)


class Verdict(Enum):
    """What became of a value."""

    HONOURED = "honoured"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True)
class Row:
    """A field, the values that were sent, and what became of each."""

    route: Route
    shape: Shape
    name: str
    verdicts: Sequence[tuple[Any, Verdict]]


class Unclear(Exception):
    """A field about which the page cannot say something true: the server or the tables must change."""


async def rows_of(prober: Prober, route: Route, shape: Shape) -> AsyncIterator[Row]:
    """Yield what becomes of each field of a shape. Raises Unclear."""
    base = await prober.send(route, shape.wrap({}))
    if base.status == 400:  # objects of this kind are refused as a whole
        yield Row(route, shape, "", ((None, Verdict.REFUSED),))
        return
    if base.status != 200:
        raise Unclear(f"{route.path}, {shape.title}: the plain body is answered with {base.status} {base.text[:200]}")
    for name in shape.fields():
        company, keeps_seed = shape.company.get(name, {}), name == "seed"
        plain = await prober.send(route, shape.wrap(company), keeps_seed=keeps_seed)
        verdicts = []
        for value in shape.values(name):
            outcome = await prober.send(route, shape.wrap({**company, name: value}), keeps_seed=keeps_seed)
            verdicts.append((value, _verdict(route, shape, name, plain, outcome)))
        yield Row(route, shape, name, verdicts)


def _verdict(route: Route, shape: Shape, name: str, base: Outcome, outcome: Outcome) -> Verdict:
    where = f"{route.path}, {shape.title}, {name}"
    if outcome.status == 400:
        field, sentence = outcome.refusal()
        names = (
            name,
            shape.title.strip("`[]"),
        )  # an object that is refused for any value of a field may be named itself
        if not any(one in field or one in sentence for one in names):
            raise Unclear(f"{where}: the refusal does not name it: {sentence}")
        return Verdict.REFUSED
    if outcome.status != 200:
        raise Unclear(f"{where}: answered with {outcome.status} {outcome.text[:200]}")
    if outcome.effect != base.effect:
        return Verdict.HONOURED
    if name not in shape.silent:
        raise Unclear(f"{where}: accepted without any effect, and no table says why")
    return Verdict.ACCEPTED


async def _page() -> str:
    prober = Prober()
    parts = [GENERATED + INTRODUCTION]
    for dialect in DIALECTS:
        parts.append(f"## {dialect.title}\n\n{dialect.introduction}\n")
        for route in dialect.routes:
            parts.append(await _route(prober, route))
    return "\n".join(parts).rstrip() + "\n"


async def _route(prober: Prober, route: Route) -> str:
    lines = [f"### {route.method} {route.path}\n"]
    lines += [f"{route.note}\n"] if route.note else []
    if route.shapes:
        lines += ["| object | field | what happens |", "|---|---|---|"]
        for shape in route.shapes:
            lines += [_line(row) async for row in rows_of(prober, route, shape)]
        lines.append("")
    return "\n".join(lines)


def _line(row: Row) -> str:
    name = f"`{row.name}`" if row.name else "all of it"
    return f"| {row.shape.title} | {name} | {_told(row)} |"


def _told(row: Row) -> str:
    verdicts = [verdict for _, verdict in row.verdicts]
    why = row.shape.silent.get(row.name, "")
    if len(set(verdicts)) == 1:
        return f"accepted: {why}" if verdicts[0] is Verdict.ACCEPTED else f"{verdicts[0].value}"
    told = []
    for verdict in Verdict:
        values = [f"`{json.dumps(value)}`" for value, one in row.verdicts if one is verdict]
        reason = f" ({why})" if verdict is Verdict.ACCEPTED and why else ""
        told += [f"{verdict.value}: {', '.join(values)}{reason}"] if values else []
    return "; ".join(told)


def page() -> str:
    """Return the page as the code is now. Raises Unclear."""
    return asyncio.run(_page())
