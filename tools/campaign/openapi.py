"""Send the server what its own description allows, and hold what it answers against the description.

    python -m tools.campaign.openapi --cases 20000

A server of cria is started, its OpenAPI document read, and every operation is tried with generated requests: some that
fit the document, some that break it on purpose. No answer may be a server error (503 with its `retry-after` is an
answer of a full server), and status, media type and body must be what the document says. Pulls, pushes and makings
are left out, because they reach for the network, and so is `keep_alive`, because 0 would take the model away from all
other cases.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

LEFT_OUT = {"/api/pull", "/api/push", "/api/create", "/metrics"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TIMEOUT_S = 60.0


@dataclass
class Report:
    """What came of it."""

    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    unbreakable: list[str] = field(default_factory=list)  # operations for which no wrong request was found

    @property
    def num_cases(self) -> int:
        """Requests that were sent."""
        return self.statuses.total()


@contextmanager
def served_cria() -> Iterator[str]:
    """Serve cria while the block runs, with an empty store; yield the address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--log-level", "warning"]
        command += ["--models", folder, "--alias", "gpt-4o=cria"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CAMELID_CONTEXT_LENGTH": "256"}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            try:
                if process.stderr is None:
                    raise OSError("the server has no standard error")
                lines = iter(process.stderr.readline, "")
                yield next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
            finally:
                process.send_signal(signal.SIGINT)


def campaign(url: str, num_cases: int, seed_of_all: int, paths: str = "") -> Report:
    """Try every operation whose path contains `paths`, `num_cases` requests in all."""
    report = Report()
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    schema.config.update(base_url=url)
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [one for one in operations if one.path not in LEFT_OUT and paths in one.path]
    varied = [one for one in operations if one.body or one.query or one.path_parameters]
    for index, operation in enumerate(one for one in operations if one not in varied):
        _try(operation, GenerationMode.POSITIVE, 1, seed_of_all + index, report)
    left = num_cases - report.num_cases
    for index, operation in enumerate(varied):
        share = left * (index + 1) // len(varied) - left * index // len(varied)
        broken = share // 2 if operation.body or operation.query else 0
        for mode, count in ((GenerationMode.POSITIVE, share - broken), (GenerationMode.NEGATIVE, broken)):
            if count:
                _try(operation, mode, count, seed_of_all + index, report)
    return report


def _try(operation: Any, mode: GenerationMode, count: int, number: int, report: Report) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        if isinstance(case.body, dict):
            case.body.pop("keep_alive", None)
            if mode is GenerationMode.POSITIVE and "model" in case.body:
                case.body["model"] = "cria"  # else hardly any would get further than its name
        response = case.call(timeout=TIMEOUT_S)
        report.statuses[f"{response.status_code // 100}xx"] += 1
        if response.status_code == 503 and "retry-after" in response.headers:
            return
        checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as group:
            what = "; ".join(f"{failure.title}: {failure.message}"[:400] for failure in group.exceptions)
            report.failures.append(
                f"{operation.label} {response.status_code}: {what}\n    {case.as_curl_command()[:600]}"
            )

    try:
        one()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:
            raise
        report.unbreakable.append(operation.label)  # every body fits that its description could be broken into


def main() -> int:
    """Run a campaign and say what happened."""
    parser = argparse.ArgumentParser(description="Hold the server's answers against its OpenAPI document.")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--paths", default="", help="only operations whose path contains this")
    parser.add_argument("--show", type=int, default=20, help="failures to print")
    arguments = parser.parse_args()
    began_s = time.perf_counter()
    with served_cria() as url:
        report = campaign(url, arguments.cases, arguments.seed, arguments.paths)
    print(f"{report.num_cases} requests in {time.perf_counter() - began_s:.0f} s: {dict(report.statuses)}")
    for failure in report.failures[: arguments.show]:
        print(failure)
    if report.unbreakable:
        print(f"nothing could be broken of: {', '.join(report.unbreakable)}")
    print(f"{len(report.failures)} answers are not as described")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
