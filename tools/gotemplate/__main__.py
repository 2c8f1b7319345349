"""The command: `python -m tools.gotemplate --go BINARY --runs 20000` compares; with `--write FILE` it keeps a table.

BINARY is what `go build` makes in this folder.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from camelid.errors import TemplateError
from camelid.text.gotemplate import parse, render

from .grammar import Writer, data
from .table import TABLE

Case = dict[str, Any]
BINARY_FLOAT = re.compile(r"[0-9a-f]p[-+][0-9]", re.IGNORECASE)


def random_cases(seed: int, runs: int) -> list[Case]:
    """Return cases made of the seed and their number alone."""
    cases = []
    for number in range(runs):
        chance = random.Random(f"{seed}:{number}")
        cases.append({"template": Writer(chance).template(), "data": data(chance)})
    return cases


def by_go(binary: Path, cases: Iterable[Case]) -> list[Case]:
    """Return the cases with what Go makes of them: `text`, or `error`."""
    lines = [json.dumps(case) for case in cases]
    done = subprocess.run([str(binary)], input="\n".join(lines), capture_output=True, text=True, check=True)
    return [json.loads(line) | json.loads(found) for line, found in zip(lines, done.stdout.splitlines(), strict=True)]


def ours(case: Case) -> Case:
    """Return what we make of a case."""
    try:
        return {"text": render(parse(case["template"]), case["data"])}
    except TemplateError as error:
        return {"error": error.message}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.gotemplate", description=__doc__)
    parser.add_argument("--go", type=Path, required=True, help="the program built of main.go")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="write the table and the first --runs random cases to a file")
    options = parser.parse_args()
    cases = by_go(options.go, [*TABLE, *random_cases(options.seed, options.runs)])
    wrong = [case for case in cases if not agrees(case, ours(case))]
    for case in wrong[:20]:
        print(f"{case}\n  ours: {ours(case)}\n", file=sys.stderr)
    fine = sum("text" in case for case in cases)
    print(f"{len(cases)} templates, {fine} rendered by Go, {len(cases) - fine} refused; {len(wrong)} differ")
    if options.write is not None:
        shown = [case if "text" in case else {**case, "error": ""} for case in cases]
        text = ",\n".join(json.dumps(case, ensure_ascii=False) for case in shown)
        options.write.write_text(f"[\n{text}\n]\n", encoding="utf-8")
    return 1 if wrong else 0


def agrees(theirs: Case, given: Case) -> bool:
    """Tell whether two outcomes are the same; the words of errors are each one's own.

    Floats with a binary exponent (`%b`, `%x`) are passed over: no prompt has them, and we do not write them.
    """
    return given.get("text") == theirs.get("text") or BINARY_FLOAT.search(theirs.get("text", "")) is not None


if __name__ == "__main__":
    sys.exit(main())
