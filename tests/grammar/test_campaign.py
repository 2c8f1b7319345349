"""A short stretch of the grammar campaigns; the long ones are commands (see tools/campaign)."""

from __future__ import annotations

import asyncio

from tools.campaign.masks import measure, open_tokenizer
from tools.campaign.schemas import campaign


def test_every_answer_of_a_model_under_random_schemas_is_valid() -> None:
    report = asyncio.run(asyncio.wait_for(campaign(12, seed=5), 200))
    assert report.wrong == []
    assert report.counts["valid"] >= 8
    assert report.counts["valid"] + report.counts["cut"] == 12


def test_every_valid_value_can_be_written_with_the_models_own_tokens() -> None:
    times = measure(open_tokenizer("cria"), num_schemas=15, seed=2)
    assert len(times.compiles) == 15
    assert len(times.masks) > 100
