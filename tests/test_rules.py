"""Rules and beams that exist are valid: what cannot be honoured is refused when it is made."""

from __future__ import annotations

import math

import pytest

from camelid.errors import InvalidRequest
from camelid.rules import Beams, Rules
from camelid.types import Generation


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guidance_scale", math.nan),
        ("encoder_repetition_penalty", 0.0),
        ("no_repeat_ngram_size", -1),
        ("encoder_no_repeat_ngram_size", -1),
        ("epsilon_cutoff", 1.0),
        ("eta_cutoff", -0.1),
        ("top_h", 0.0),
        ("exponential_decay_length_penalty", (-1, 1.1)),
        ("exponential_decay_length_penalty", (1, math.inf)),
        ("sequence_bias", (((1,), math.nan),)),
        ("sequence_bias", (((), 1.0),)),
        ("bad_words_ids", ((),)),
        ("bad_words_ids", ((-1,),)),
        ("bad_words_ids", (tuple(range(20000)),)),
        ("forced_bos_token_id", -1),
        ("suppress_tokens", (2**31,)),
    ],
)
def test_rules_refuse_what_is_out_of_range_and_name_the_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        Rules(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("num_beams", {"num_beams": 0}),
        ("num_beams", {"num_beams": 17}),
        ("length_penalty", {"num_beams": 2, "length_penalty": math.inf}),
        ("early_stopping", {"num_beams": 2, "early_stopping": "always"}),
    ],
)
def test_beams_refuse_what_is_out_of_range_and_name_the_field(field: str, values: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        Beams(**values)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_an_end_that_is_forced_cannot_be_suppressed_too() -> None:
    with pytest.raises(InvalidRequest, match="forced_eos_token_ids"):
        Rules(forced_eos_token_ids=(3,), suppress_tokens=(2, 3))


def test_rules_that_do_nothing_are_plain() -> None:
    assert Rules().is_plain
    assert not Rules(suppress_tokens=(3,)).is_plain


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("n", {"num_choices": 3}),
        ("guidance_scale", {"rules": Rules(guidance_scale=2.0)}),
    ],
)
def test_what_a_search_with_beams_cannot_keep_is_refused_by_name(field: str, values: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        Generation(beams=Beams(2), **values)  # type: ignore[arg-type]
    assert caught.value.field == field
