"""W7: requests that use different LoRA adapters. This version's engine has no adapters, so there is nothing to measure
yet.
"""

from __future__ import annotations

from camelid.bench.workload import Workload, not_there_yet

WORKLOAD = Workload("adapters", "W7: LoRA adapters", {"small": None, "full": None}, not_there_yet("LoRA adapters"))
