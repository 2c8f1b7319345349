"""The command: `python -m tools.fuzz formats --runs 200000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from camelid.errors import FormatError

from .campaign import Failure, Report, limit_memory, run_campaign

TARGETS = ("gguf", "safetensors", "pth", "modelfile", "gotemplate", "manifests", "names")
GROUPS = {
    "formats": ("gguf", "safetensors", "pth"),
    "texts": ("modelfile", "gotemplate", "manifests", "names"),
    "all": TARGETS,
}
MOST_RULES = 12  # shown of what was refused


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("target", choices=(*TARGETS, *GROUPS))
    parser.add_argument("--runs", type=int, default=10_000, help="executions per target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first run, to repeat a failure")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failure.bin"), help="where the file of a failure goes")
    options = parser.parse_args()
    limit_memory()
    for name in GROUPS.get(options.target, (options.target,)):
        target = import_module(f".{name}_target", __package__)  # only then: one of them imports torch
        try:
            refusals = getattr(target, "REFUSALS", (FormatError,))
            report = run_campaign(target.make, target.check, options.seed, options.runs, options.first, refusals)
        except Failure as failure:
            options.keep.write_bytes(failure.raw)
            again = f"python -m tools.fuzz {name} --seed {options.seed} --first {failure.number} --runs 1"
            print(f"{name}: {failure}\nthe file is {options.keep}; again: {again}", file=sys.stderr)
            return 1
        _print(name, report)
    return 0


def _print(name: str, report: Report) -> None:
    print(
        f"{name}: {report.runs} runs, {report.accepted} accepted, {report.refused.total()} refused, "
        f"slowest {report.slowest_s * 1000:.0f} ms, memory grew {report.growth_bytes >> 20} MiB"
    )
    for rule, count in report.refused.most_common(MOST_RULES):
        print(f"  {count:8d}  {rule}")


if __name__ == "__main__":
    sys.exit(main())
