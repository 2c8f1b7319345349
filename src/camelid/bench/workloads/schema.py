"""W6: answers held to a JSON schema, beside the same answers left free: what the masks cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from camelid.bench.subject import Needs, Subject
from camelid.bench.workload import Case, Values, Workload, in_engine
from camelid.runtime.grammars import prepare
from camelid.types import Grammar, Sampling

# An answer may go on for as long as it is wanted: it is the pace that is measured.
SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "is_shorn": {"type": "boolean"}},
        "required": ["name", "age", "is_shorn"],
        "additionalProperties": False,
    },
    "minItems": 1000,
}


@dataclass(frozen=True)
class Sizes:
    """Tokens of the prompt and of the answer."""

    prompt_tokens: int = 64
    new_tokens: int = 48


def needs(sizes: Sizes) -> Needs:
    """Return the room for one answer."""
    return Needs(1, sizes.prompt_tokens + sizes.new_tokens)


def cases(subject: Subject, sizes: Sizes) -> Sequence[Case]:
    """Return a case that is left free, and one that is held to the schema."""
    return [_case(subject, sizes, None), _case(subject, sizes, Grammar.schema(SCHEMA, "schema"))]


def _case(subject: Subject, sizes: Sizes, grammar: Grammar | None) -> Case:
    async def run(number: int) -> Values:
        source = await prepare(subject.model, grammar)
        prompt = subject.prompt((number, grammar is None), sizes.prompt_tokens)
        line = await subject.ask(
            prompt, sizes.new_tokens, sampling=Sampling(temperature=1.0, seed=number), grammar=source
        )
        return {"decode": line.rate, "first token": line.first_s, "longest gap": max(line.gaps_s) * 1e3}

    middle = sizes.prompt_tokens + sizes.new_tokens / 2
    return Case(
        {"answer": "free" if grammar is None else "a JSON schema"},
        run,
        {"decode": lambda work, roofs: 1 / work.decode_seconds(roofs, 1, middle)},
    )


WORKLOAD = Workload(
    "schema",
    "W6: answers held to a JSON schema",
    {"small": Sizes(), "full": Sizes(256, 256)},
    in_engine({"decode": "tok/s", "first token": "s", "longest gap": "ms"}, needs, cases),
)
