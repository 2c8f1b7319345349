"""What Prometheus reads: counters and histograms of the answers, and the engines' levels at the moment of reading.

Names are vLLM's with our prefix, so that dashboards need one replacement. Each server has its own registry: two in one
process do not mix.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from camelid.errors import CamelidError, Cancelled
from camelid.runtime.status import Judgements
from camelid.types import Event, Finished, Text, Usage

from .contract import ServedRuntime
from .histogram import LABEL, Histogram
from .lifecycle import Lifecycle

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FIRST_TOKEN_S = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_BETWEEN_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
_WHOLE_S = (0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920)


# Engine's name of a count or level → ours, and what it means.
_LEVELS = {
    "sequences_running": ("num_requests_running", "Answers that are being computed."),
    "sequences_waiting": ("num_requests_waiting", "Answers that wait for their turn."),
    "last_step_seconds": ("engine_step_seconds", "How long the last step took."),
}
_COUNTS = {
    "steps": ("engine_steps", "Steps."),
    "computed_tokens": ("computed_tokens", "Tokens that went through the model."),
    "reused_tokens": ("prefix_cache_hits", "Tokens of prompts that the prefix cache spared."),
    "guessed_tokens": ("spec_decode_num_draft_tokens", "Tokens that were guessed, from the text or by a draft model."),
    "right_guesses": ("spec_decode_num_accepted_tokens", "Guessed tokens that were right."),
    "preemptions": ("num_preemptions", "Answers that were set back because the cache was full."),
}


class Metrics:
    """The metrics of one server."""

    def __init__(self, version: str, runtime: ServedRuntime, lifecycle: Lifecycle) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Engines(runtime, lifecycle))
        names = (LABEL,)
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts.", names)
        self._cached = self._counter("prompt_tokens_cached", "Tokens of prompts that the prefix cache spared.", names)
        self._generated = self._counter("generation_tokens", "Tokens that were generated.", names)
        self._outcomes = self._counter("request_outcome", "Requests by how they ended.", (*names, "outcome"))
        self._successes = self._counter("request_success", "Answers by why they ended.", (*names, "finished_reason"))
        self._first = self._histogram("time_to_first_token_seconds", "From request to first text.", _FIRST_TOKEN_S)
        self._between = self._histogram("inter_token_latency_seconds", "Between two pieces of text.", _BETWEEN_S)
        self._whole = self._histogram("e2e_request_latency_seconds", "From request to last event.", _WHOLE_S)
        build = Gauge("camelid_build_info", "The version that runs.", ("version",), registry=self.registry)
        build.labels(version).set(1)

    def page(self) -> bytes:
        """Return all metrics in Prometheus's text form."""
        return generate_latest(self.registry)

    async def observed(self, events: AsyncGenerator[Event, None], model: str) -> AsyncGenerator[Event, None]:
        """Yield `events`, and count what they tell."""
        first, between = self._first.of(model), self._between.of(model)
        began = last = time.monotonic()
        outcome = "cancelled"  # unless it turns out otherwise: a closed iterator does not come back here
        seen = False
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Text) and event.choice == 0:
                        now = time.monotonic()
                        (between if seen else first).observe(now - last)
                        last, seen = now, True
                    elif isinstance(event, Finished):
                        self._count(event, model)
                    yield event
            outcome = "success"
        except CamelidError as error:
            outcome = "cancelled" if isinstance(error, Cancelled) else type(error).__name__
            raise
        finally:
            self._outcomes.labels(model, outcome).inc()
            self._whole.of(model).observe(time.monotonic() - began)

    def count_embedded(self, prompt_tokens: int, model: str) -> None:
        """Count a request for embeddings that was answered."""
        self._outcomes.labels(model, "success").inc()
        self._prompt.labels(model).inc(prompt_tokens)

    def _count(self, event: Finished, model: str) -> None:
        self._successes.labels(model, event.reason.value).inc()
        usage = event.usage or Usage(0, 0)
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._generated.labels(model).inc(usage.completion_tokens)

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"camelid_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"camelid_{name}", meaning, buckets)
        self.registry.register(histogram)
        return histogram


class _Engines(Collector):
    """Reads what the engines and the server are at when Prometheus asks."""

    def __init__(self, runtime: ServedRuntime, lifecycle: Lifecycle) -> None:
        self._runtime, self._lifecycle = runtime, lifecycle

    def describe(self) -> Iterator[Metric]:
        """Name nothing in advance, so that the runtime is not asked before it is loaded."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the levels and counts of this moment."""
        stats, health = self._runtime.stats(), self._runtime.health()
        yield _gauge("num_requests_in_flight", "Requests that are being answered.", self._lifecycle.num_running)
        yield _gauge("is_alive", "1 if a model is loaded and its engine alive.", health.is_started and health.is_fresh)
        yield _gauge("is_draining", "1 while the server is shutting down.", self._lifecycle.is_leaving)
        usage = stats.get("pages_held", 0.0) / max(1.0, stats.get("pages", 0.0))
        yield _gauge("kv_cache_usage_perc", "Share of the cache that answers hold, from 0 to 1.", usage)
        yield _count("engine_restarts", "Engines that died and were replaced.", health.num_restarts)
        yield from (_gauge(*_LEVELS[key], stats[key]) for key in _LEVELS if key in stats)
        yield from (_count(*_COUNTS[key], stats[key]) for key in _COUNTS if key in stats)
        yield from _safety(self._runtime.judgements())


def _safety(judged: Judgements) -> Iterator[Metric]:
    """Yield what safety models have said."""
    verdicts = _labelled("safety_verdicts", "Safety checks by what they ended with.", ("direction", "verdict"))
    for (direction, outcome), count in judged.outcomes.items():
        verdicts.add_metric([direction, outcome], count)
    violations = _labelled("safety_violations", "Categories in verdicts of unsafe.", ("direction", "category"))
    for (direction, key), count in judged.categories.items():
        violations.add_metric([direction, key], count)
    seconds = _labelled("safety_check_seconds", "Time that safety checks took.", ("direction",))
    for direction, took_s in judged.seconds.items():
        seconds.add_metric([direction], took_s)
    yield from (verdicts, violations, seconds)


def _labelled(name: str, meaning: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(f"camelid_{name}", meaning, labels=labels)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"camelid_{name}", meaning, value=value)


def _count(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"camelid_{name}", meaning, value=value)
