"""A short stretch of the random campaign; the long one is a command (see campaign.py)."""

import pytest
from tests.engine.campaign import Campaign


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_a_random_life_gives_every_token_of_the_oracle_and_loses_no_page(seed):
    campaign = Campaign(seed)
    campaign.run(500)
    assert campaign.counts["generated_tokens"] > 500
    assert campaign.counts["right_guesses"] > 0
