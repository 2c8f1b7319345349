"""A short stretch of the campaign that replaces servers under load (tools/campaign/rolling.py), with scripted ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tools.campaign.rolling import Pace, campaign

FAKE = str(Path(__file__).parents[1] / "server" / "serve_fake.py")


def test_no_stream_fails_while_two_servers_are_replaced_one_by_one() -> None:
    pace = Pace(notice_s=0.3, probe_s=0.1, keeps_answering_s=0.6)
    report = asyncio.run(campaign(2, 1, streams=4, pace=pace, command=(FAKE, "short", "10", "0.3")))
    assert report.failed == []
    assert report.num_replaced == 2
    assert report.num_streams > 4
