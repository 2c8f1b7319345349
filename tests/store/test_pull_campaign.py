"""A short stretch of the campaign that kills pulls; the long one is a command (see tools/campaign/pulls.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.campaign.pulls import run


def test_pulls_that_are_killed_leave_nothing_wrong() -> None:
    report = run(num_kills=3, seed=5)
    assert report.num_kills >= 3
    assert report.num_whole >= 1
    assert all(again <= 8 << 20 for again in report.again_bytes)
