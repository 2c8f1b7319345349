"""W6: answers held to a JSON schema. This version's engine has no grammars, so there is nothing to measure yet."""

from __future__ import annotations

from camelid.bench.workload import Workload, not_there_yet

WORKLOAD = Workload(
    "schema", "W6: answers held to a JSON schema", {"small": None, "full": None}, not_there_yet("structured output")
)
