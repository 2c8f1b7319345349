"""W8: from the start of a process to its first token, with the weights in the system's file cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from camelid.bench.fresh import Order, Told, in_fresh_process
from camelid.bench.result import Row, gather
from camelid.bench.workload import Outcome, Workload
from camelid.settings import ModelSettings

UNITS = {"model ready": "s", "first token": "s", "most memory": "MiB"}


@dataclass(frozen=True)
class Sizes:
    """Tokens of the prompt."""

    prompt_tokens: int = 8


def measure(model: str, settings: ModelSettings, sizes: Sizes, runs: int) -> Outcome:
    """Start a process for each run, and one before that fills the file cache."""
    order = Order(model, sizes.prompt_tokens, 1, asdict(settings))
    in_fresh_process(order)
    rounds = [values(in_fresh_process(order)) for _ in range(runs)]
    row = Row({"prompt": str(sizes.prompt_tokens)}, gather(UNITS, rounds, {}))
    notes = (
        f"Median and middle half of {runs} runs, after one that filled the file cache",
        "Python's own start is in it: everything from the start of the process",
    )
    return Outcome((row,), f"{model.rpartition('/')[2]}, in one process", notes)


def values(told: Told) -> Mapping[str, Any]:
    """Return a process's word as columns."""
    return {"model ready": told.ready_s, "first token": told.first_token_s, "most memory": told.most_bytes / 2**20}


WORKLOAD = Workload("start", "W8: from process start to first token", {"small": Sizes(), "full": Sizes()}, measure)
