"""The workloads, one a file, and the table of them. A file is imported when its workload is asked for."""

from __future__ import annotations

import importlib

from camelid.bench.workload import Workload

# name: one line of help. The module has the same name and defines WORKLOAD.
WORKLOADS = {
    "decode": "W1: tokens a second of one stream, at several depths of context.",
    "prefill": "W2: prompts of several lengths: tokens a second, time to the first token.",
    "chats": "W3: users who chat at once and share a system prompt.",
    "arrivals": "W4: requests of mixed lengths, all at once and at random times: goodput.",
    "choices": "W5: several answers to one prompt.",
    "schema": "W6: answers held to a JSON schema.",
    "adapters": "W7: requests that use different LoRA adapters.",
    "start": "W8: from the start of the process to the first token.",
    "memory": "W9: the most memory that a process held.",
    "mixed": "W10: a long prompt arrives while others are being answered: the longest gap between tokens.",
    "beams": "Searches with beams, beside as many plain answers: tokens a second of all.",
    "draft": "One stream with a draft model's guesses and without: tokens a second, guesses that were right.",
    "batch": "Several streams at once: tokens a second in total.",
}


def find_workload(name: str) -> Workload:
    """Import a workload of the table."""
    workload: Workload = importlib.import_module(f"camelid.bench.workloads.{name}").WORKLOAD
    return workload
