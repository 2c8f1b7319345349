"""Values that exist are valid: what cannot be honoured is refused when it is made."""

from __future__ import annotations

import math

import pytest

from camelid.errors import InvalidRequest
from camelid.types import Generation, Sampling, Stopping


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 1.01),
        ("min_p", -1.0),
        ("typical_p", 2.0),
        ("top_k", -1),
        ("top_k", 2**40),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -math.inf),
        ("seed", -1),
        ("seed", 2**64),
        ("penalty_window", -2),
        ("logit_bias", {1: 101.0}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", dict.fromkeys(range(1025), 1.0)),
    ],
)
def test_sampling_refuses_what_is_out_of_range_and_names_the_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        Sampling(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    "values",
    [
        {"max_tokens": 0},
        {"min_tokens": -1},
        {"max_tokens": 2, "min_tokens": 3},
        {"stop": ("",)},
        {"stop": ("x" * 257,)},
        {"stop": ("x",) * 17},
        {"max_length": 0},
        {"min_length": -1},
        {"max_seconds": -1.0},
    ],
)
def test_stopping_refuses_what_cannot_be_honoured(values: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        Stopping(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"num_choices": 0}, {"num_choices": 9}, {"top_logprobs": 21}, {"top_logprobs": -1}])
def test_generation_bounds_choices_and_alternatives(values: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        Generation(**values)  # type: ignore[arg-type]


def test_the_error_states_the_bound_and_the_value() -> None:
    with pytest.raises(InvalidRequest, match=r"top_p must be 0–1, got 1\.5"):
        Sampling(top_p=1.5)
