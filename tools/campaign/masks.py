"""What the mask of a grammar costs a token, with a vocabulary of Llama 3's size. A command with a size:

    python -m tools.campaign.masks --schemas 500 --seed 1

Random schemas are compiled, and a valid value of each is written token by token, as a model would. Measured is the time
to make each mask, first visits included. The aim: 100 µs on average, 2 ms at the 99th percentile. The vocabulary is
Meta's real one (`llama-models`, a test dependency), or with `--vocabulary cria` that of the bundled model.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from random import Random

from camelid.grammar import Compiler, GrammarChecker
from camelid.runtime.grammars import vocabulary_of
from camelid.text import from_gguf, from_meta
from camelid.text.tokenizer import Tokenizer
from camelid.types import Grammar

from .random_schemas import random_schema

AIM_AVERAGE_US, AIM_P99_US = 100.0, 2000.0


@dataclass
class Times:
    """Seconds, one for each mask or grammar. `masks_cpu` leaves out what other programs took."""

    masks: list[float] = field(default_factory=list)
    masks_cpu: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)
    compiles: list[float] = field(default_factory=list)


def measure(tokenizer: Tokenizer, num_schemas: int, seed: int) -> Times:
    """Return what random schemas cost. Raises AssertionError if a valid value is not allowed."""
    random, times = Random(seed), Times()
    checker, compiler = GrammarChecker(), Compiler(vocabulary_of(tokenizer))
    compiler.begin(checker.prepare(Grammar.json_object("warm up")))
    for _ in range(num_schemas):
        schema, value = random_schema(random)
        start = time.perf_counter()
        source = checker.prepare(Grammar.schema(schema, "schema"))
        checked = time.perf_counter()
        compiler.compile(source)
        times.checks.append(checked - start)
        times.compiles.append(time.perf_counter() - checked)
        text = json.dumps(value, ensure_ascii=False, indent=random.choice((None, None, 2)))
        _walk(compiler, source, tokenizer.encode(text), times)
    checker.close()
    compiler.close()
    return times


def _walk(compiler: Compiler, source: str, ids: list[int], times: Times) -> None:
    matcher = compiler.begin(source)
    for token in ids:
        start, cpu = time.perf_counter(), time.thread_time()
        [mask] = matcher.masks()
        times.masks_cpu.append(time.thread_time() - cpu)
        times.masks.append(time.perf_counter() - start)
        assert mask is not None
        assert mask[token // 8] >> token % 8 & 1, f"token {token} of {ids} is not allowed"
        matcher.take(token)
    assert matcher.is_finished, f"{ids} is not complete"


def percentiles(seconds: list[float]) -> str:
    """Return average, median and tail in microseconds."""
    ordered = sorted(seconds)
    tail = {name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] for name, share in _SHARES.items()}
    shown = " ".join(f"{name} {value * 1e6:.0f}" for name, value in tail.items())
    return f"average {sum(ordered) / len(ordered) * 1e6:.0f} {shown} µs ({len(ordered)})"


_SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "longest": 1.0}


def open_tokenizer(name: str) -> Tokenizer:
    """Return the tokenizer of `llama3` (Meta's file) or `cria`."""
    if name == "llama3":
        return from_meta(Path(str(files("llama_models") / "llama3" / "tokenizer.model")))
    from camelid.formats import open_checkpoint
    from camelid.store.local import find

    with open_checkpoint(find("cria").weights) as checkpoint:
        return from_gguf(checkpoint.metadata)


def yardstick_ms() -> float:
    """Return the processor time of a fixed piece of Python: 20–30 ms on a machine that is not shared."""
    start = time.thread_time()
    for _ in range(1_000_000):
        pass
    return (time.thread_time() - start) * 1e3


def main() -> None:
    """Measure and print; leave with 1 where the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocabulary", choices=("llama3", "cria"), default="llama3")
    given = parser.parse_args()
    times = measure(open_tokenizer(given.vocabulary), given.schemas, given.seed)
    print(f"mask, processor time: {percentiles(times.masks_cpu)}")
    print(f"mask, time:           {percentiles(times.masks)}")
    print(f"check of a schema:    {percentiles(times.checks)}")
    print(f"compile:              {percentiles(times.compiles)}")
    print(f"this machine, now:    {yardstick_ms():.0f} ms for a million turns of an empty loop")
    ordered = sorted(times.masks_cpu)
    average_us, p99_us = sum(ordered) / len(ordered) * 1e6, ordered[int(len(ordered) * 0.99)] * 1e6
    sys.exit(average_us > AIM_AVERAGE_US or p99_us > AIM_P99_US)


if __name__ == "__main__":
    main()
