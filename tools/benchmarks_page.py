"""Take the measurements of docs/benchmarks.md, or write its tables again from what was taken.

Usage: python -m tools.benchmarks_page --model 1b.gguf --peers-python PYTHON    measures everything, writes the page
       python -m tools.benchmarks_page --model 1b.gguf --only decode,prefill    measures these
       python -m tools.benchmarks_page                                          writes the tables from docs/benchmarks/
       python -m tools.benchmarks_page --check                                  fails if the page is stale (a test does)

Each measurement is a `camelid bench` command; its result is kept as docs/benchmarks/NAME.json, and the page has a place
for its table between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from camelid.bench.plot import svg_plot
from camelid.bench.result import from_json
from camelid.bench.table import markdown_table

DOCS = Path(__file__).parents[1] / "docs"
PAGE, RESULTS = DOCS / "benchmarks.md", DOCS / "benchmarks"
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# What is measured, in the order of the page. MODEL and PYTHON are put in from the arguments.
COMMANDS = {
    "roofline": "roofline --runs 7",
    "peers": "peers MODEL --runs 2 --python PYTHON",
    "decode": "decode MODEL --fast-copies first --depths 0,2048 --runs 3",
    "prefill": "prefill MODEL --fast-copies first --prompt-tokens 512,2048 --runs 3",
    "batch": "batch MODEL --fast-copies first --streams 1,4,16 --runs 3",
    "chats": "chats MODEL --fast-copies first --users 4,16 --shared-tokens 1024 --runs 2",
    "arrivals": "arrivals MODEL --fast-copies first --runs 2",
    "choices": "choices MODEL --fast-copies first --runs 3",
    "beams": "beams MODEL --fast-copies first --runs 3",
    "schema": "schema MODEL --fast-copies first --runs 3",
    "adapters": "adapters MODEL --fast-copies first --streams 1,8 --adapters 8 --runs 2",
    "mixed": "mixed MODEL --fast-copies first --arriving-tokens 4096 --runs 2",
    "start": "start MODEL --context-length 2048",
    "memory": "memory MODEL --runs 3 --context-length 2048",
    "http": "http --runs 3 --idle 10000",
}


def measure(name: str, model: str, python: str) -> None:
    """Run one command and keep its result."""
    words = [{"MODEL": model, "PYTHON": python}.get(word, word) for word in COMMANDS[name].split()]
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    print(f"camelid bench {' '.join(words)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "camelid", "bench", *words, "--json", str(file)], check=True)


def page() -> str:
    """Return the page with every table as its result says. A measurement that was never taken says so."""

    def table(found: re.Match[str]) -> str:
        file = RESULTS / f"{found[2]}.json"
        if not file.exists():
            return f"{found[1]}\nNot taken yet: `camelid bench {COMMANDS[found[2]]}`\n\n{found[3]}"
        result = from_json(file.read_text(encoding="utf-8"), file.name)
        picture = f"![{result.title}](benchmarks/{file.stem}.svg)\n\n" if file.with_suffix(".svg").exists() else ""
        return f"{found[1]}\n{markdown_table(result)}\n{picture}{found[3]}"

    return PLACE.sub(table, PAGE.read_text(encoding="utf-8"))


def draw(file: Path) -> None:
    """Write the picture of one result beside it."""
    result = from_json(file.read_text(encoding="utf-8"), file.name)
    file.with_suffix(".svg").write_text(svg_plot(result), encoding="utf-8")


def main() -> int:
    """Measure what was asked for, and write or check the page."""
    parser = argparse.ArgumentParser(description="Take the measurements of docs/benchmarks.md.")
    parser.add_argument("--model", help="the GGUF file to measure; without it nothing is measured")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--only", default=",".join(COMMANDS), help="names, separated by commas")
    parser.add_argument("--check", action="store_true", help="fail if the page is not what the results say")
    given = parser.parse_args()
    if given.check:
        return int(page() != PAGE.read_text(encoding="utf-8"))
    if given.model:
        for name in given.only.split(","):
            measure(name, given.model, given.peers_python)
    for file in RESULTS.glob("*.json"):
        draw(file)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
