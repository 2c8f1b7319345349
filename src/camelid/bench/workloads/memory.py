"""W9: the most memory that a process held, beside the size of the file that it computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from camelid.bench.fresh import Order, Told, in_fresh_process
from camelid.bench.result import Row, gather
from camelid.bench.workload import Outcome, Workload
from camelid.runtime.loading import describe
from camelid.settings import ModelSettings

UNITS = {
    "file": "MiB",
    "most memory": "MiB",
    "beyond the file": "MiB",
    "mapped at the end": "MiB",
    "own at the end": "MiB",
}


@dataclass(frozen=True)
class Sizes:
    """Tokens of the prompts, and of each answer."""

    prompt_tokens: tuple[int, ...] = (8, 512)
    new_tokens: int = 8


def measure(model: str, settings: ModelSettings, sizes: Sizes, runs: int) -> Outcome:
    """Start a process for each prompt and run."""
    weights = describe(model, settings).files.weights
    rows = []
    for length in sizes.prompt_tokens:
        order = Order(model, length, sizes.new_tokens, asdict(settings))
        rounds = [values(in_fresh_process(order), _size(weights)) for _ in range(runs)]
        labels = {"prompt + answer": f"{length:,} + {sizes.new_tokens}"}
        rows.append(Row(labels, gather(UNITS, rounds, {})))
    return Outcome(
        tuple(rows),
        f"{weights.name}, in one process, cache {settings.cache_type}",
        ("Most memory counts the touched pages of the mapped file, which are shared and which the system can drop",),
    )


def values(told: Told, file_bytes: int) -> Mapping[str, Any]:
    """Return a process's word as columns."""
    sizes = file_bytes, told.most_bytes, told.most_bytes - file_bytes, told.file_bytes, told.own_bytes
    return {column: size / 2**20 for column, size in zip(UNITS, sizes, strict=True)}


def _size(weights: Path) -> int:
    """Return the bytes of a weights file, or of all in a folder."""
    files = weights.rglob("*.safetensors") if weights.is_dir() else [weights]
    return sum(file.stat().st_size for file in files)


WORKLOAD = Workload("memory", "W9: the most memory held", {"small": Sizes(), "full": Sizes((8, 512, 4096))}, measure)
