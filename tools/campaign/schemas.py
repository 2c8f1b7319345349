"""Random JSON schemas through a real model: is every answer valid? A command with a size:

    python -m tools.campaign.schemas --schemas 1000 --seed 1

Each schema is given to the bundled model as the form of an answer, drawn at a high temperature so that the model wants
all kinds of nonsense. Every answer that ends must be JSON that the `jsonschema` package finds valid; one that is cut at
its length is counted, and no more can be asked of it. What the grammars cannot enforce is refused, and counted too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import jsonschema

from camelid.errors import BadGrammar
from camelid.runtime.runtime import Runtime
from camelid.settings import ModelSettings
from camelid.types import ChatRequest, Finished, FinishReason, Generation, Grammar, Message, Sampling, Stopping, Text

from .random_schemas import random_schema

MAX_TOKENS = 900
AT_ONCE = 8


@dataclass
class Report:
    """What came of a campaign."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        named = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return "\n".join([*self.wrong, named])


async def campaign(num_schemas: int, seed: int) -> Report:
    """Ask for an answer under each schema, several at once, and check what comes."""
    random, report = Random(seed), Report()
    runtime = Runtime(ModelSettings(context_length=1024), in_process=True)
    await runtime.load("cria")
    numbers = iter(range(num_schemas))

    async def one_after_the_other() -> None:
        for number in numbers:
            schema, value = random_schema(random)
            jsonschema.validate(value, schema)
            await _try(runtime, schema, number, report)

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    await runtime.close()
    return report


async def _try(runtime: Runtime, schema: dict[str, Any], number: int, report: Report) -> None:
    grammar = Grammar.schema(schema, "schema")
    request = ChatRequest(
        "cria",
        (Message("user", f"Give me an example of number {number}."),),
        generation=Generation(Sampling(temperature=1.4, seed=number), Stopping(max_tokens=MAX_TOKENS), grammar=grammar),
    )
    texts, reason = [], None
    try:
        async for event in runtime.chat(request):
            if isinstance(event, Text):
                texts.append(event.text)
            elif isinstance(event, Finished):
                reason = event.reason
    except BadGrammar as error:
        report.counts["refused"] += 1
        report.wrong.append(f"{error.message}: {json.dumps(schema)}")
        return
    if reason is not FinishReason.STOP:
        report.counts["cut"] += 1
        return
    try:
        jsonschema.validate(json.loads("".join(texts)), schema)
        report.counts["valid"] += 1
    except (ValueError, jsonschema.ValidationError) as error:
        report.counts["invalid"] += 1
        report.wrong.append(f"{error}: {''.join(texts)}")


def main() -> None:
    """Run and print; leave with 1 if an answer is wrong or a schema refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    report = asyncio.run(campaign(given.schemas, given.seed))
    print(report)
    sys.exit(bool(report.wrong))


if __name__ == "__main__":
    main()
