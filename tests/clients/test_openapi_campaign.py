"""A short stretch of the campaign that holds answers against the OpenAPI document (tools/campaign/openapi.py)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.campaign.openapi import campaign


def test_answers_are_as_the_document_describes_them(cria_url: str) -> None:
    report = campaign(cria_url, 50, 1)
    assert report.failures == []
    assert report.statuses["2xx"] > 0
    assert report.statuses["4xx"] > 0
    assert report.num_cases >= 45  # a few operations take whatever their description could be broken into
