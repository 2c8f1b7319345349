"""A short stretch of the comparison with Transformers; the long one is a command (see tools/campaign/beams.py)."""

from tools.campaign.beams import run


def test_searches_find_the_answers_of_transformers_with_their_scores() -> None:
    outcome = run(12, 1)
    assert outcome.mismatches == []
    assert outcome.num_configurations == 12
