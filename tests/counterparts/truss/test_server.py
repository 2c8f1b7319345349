"""The real Truss server, built by the real package without Docker, still answers as it was recorded."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tools.truss.record import record

RECORDED = Path(__file__).parents[2] / "golden" / "predict" / "truss.json"


def test_what_our_own_tests_are_held_against_is_what_truss_answers() -> None:
    assert record(os.environ["COUNTERPART_PYTHON"]) == json.loads(RECORDED.read_text(encoding="utf-8"))
