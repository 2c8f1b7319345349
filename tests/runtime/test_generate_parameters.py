"""Transformers' parameters: each one means what it means there, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from camelid.errors import InvalidRequest
from camelid.rules import Beams, Rules
from camelid.runtime.generate_parameters import NEUTRAL, REFUSED, GenerateParameters, to_generation
from camelid.runtime.generated import parameters_of
from camelid.types import Generation, Sampling, Stopping

MAKERS = Sampling(temperature=0.6, top_p=0.9)
GREEDY = Sampling(temperature=0.0)


def ask(recommended: Sampling = MAKERS, **given: Any) -> Generation:
    return to_generation(parameters_of(given), 7, recommended)


def test_what_is_left_out_is_as_the_makers_recommend() -> None:
    assert ask() == Generation(Sampling(temperature=0.6, top_p=0.9, seed=7))
    assert ask(GREEDY).sampling.temperature == 0
    assert ask(GREEDY, temperature=0.3).sampling.temperature == 0.3


def test_without_draws_temperature_and_filters_do_not_count() -> None:
    filters = {"temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.2}
    assert ask(do_sample=False, **filters).sampling == Sampling(temperature=0.0, repetition_penalty=1.2, seed=7)
    assert ask(do_sample=True, **filters).sampling == Sampling(**filters, seed=7)


def test_beams_draw_only_where_it_is_said() -> None:
    assert ask(num_beams=4).beams == Beams(4)
    assert ask(num_beams=4, temperature=0.5).sampling == Sampling(seed=7)
    found = ask(num_beams=3, do_sample=True, temperature=0.5, length_penalty=0.2, early_stopping="never")
    assert found.beams == Beams(3, 0.2, "never", samples=True)
    assert found.sampling.temperature == 0.5
    assert ask(num_beams=1, length_penalty=2.0).beams is None


def test_several_sequences_need_beams_or_draws() -> None:
    assert ask(num_beams=4, num_return_sequences=2).num_choices == 2
    assert ask(do_sample=True, num_return_sequences=3).num_choices == 3
    with pytest.raises(InvalidRequest, match="num_return_sequences must be 1 where") as greedy:
        ask(do_sample=False, num_return_sequences=2)
    with pytest.raises(InvalidRequest, match=r"num_return_sequences must be at most num_beams \(2\), got 3") as many:
        ask(num_beams=2, num_return_sequences=3)
    assert greedy.value.field == many.value.field == "num_return_sequences"


def test_lengths_and_ends() -> None:
    given = {"max_length": 9, "max_new_tokens": 5, "min_length": 3, "min_new_tokens": 2, "max_time": 1.5}
    expected = Stopping(5, 2, ("x",), max_length=9, min_length=3, max_seconds=1.5, end_ids=(4, 5))
    assert ask(**given, stop_strings="x", eos_token_id=[4, 5]).stopping == expected
    assert ask(stop_strings=["a", "b"], eos_token_id=4).stopping == Stopping(stop=("a", "b"), end_ids=(4,))


def test_rules_have_transformers_names() -> None:
    given = {
        "guidance_scale": 1.5,
        "negative_prompt": "no",
        "sequence_bias": {(5, 6): -2.0},
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[5, 6], [7]],
        "forced_bos_token_id": 3,
        "forced_eos_token_id": 4,
        "exponential_decay_length_penalty": [3, 1.5],
        "suppress_tokens": [8],
        "begin_suppress_tokens": [9],
        "top_h": 0.4,
        "renormalize_logits": True,
        "remove_invalid_values": True,
    }
    assert ask(**given).rules == Rules(
        guidance_scale=1.5,
        negative_prompt="no",
        sequence_bias=(((5, 6), -2.0),),
        no_repeat_ngram_size=2,
        bad_words_ids=((5, 6), (7,)),
        forced_bos_token_id=3,
        forced_eos_token_ids=(4,),
        exponential_decay_length_penalty=(3, 1.5),
        suppress_tokens=(8,),
        begin_suppress_tokens=(9,),
        top_h=0.4,
        renormalize_logits=True,
        remove_invalid_values=True,
    )
    assert ask(negative_prompt_ids=[1, 2]).rules == Rules(negative_prompt=(1, 2))
    assert ask(typical_p=0.5, do_sample=True).rules == Rules()  # their order of filters


def test_every_parameter_is_honoured_or_refused_by_name() -> None:
    for name, hint in REFUSED.items():
        with pytest.raises(InvalidRequest, match=f"{name} is not supported") as refused:
            ask(**{name: {"x": 1}})
        assert (refused.value.field, refused.value.hint) == (name, hint)
    for name, values in NEUTRAL.items():
        for value in values:
            assert ask(**{name: value}) == ask()
        with pytest.raises(InvalidRequest, match=f"{name} is not supported, but for its default"):
            ask(**{name: 3})
    assert {*REFUSED, *NEUTRAL} <= {*GenerateParameters.__struct_fields__}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colour": "red"}, "there is no parameter 'colour'"),
        ({"num_beams": "four"}, "num_beams: expected `int | null`, got `str`"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1–2147483647, got 0"),
        ({"max_new_tokens": 1, "min_new_tokens": 2}, "min_new_tokens must be at most max_new_tokens (1), got 2"),
        ({"max_time": -1.0}, "max_time must be"),
        ({"do_sample": True, "num_return_sequences": 9}, "num_return_sequences must be 1–8, got 9"),
        ({"stop_strings": ["x"] * 17}, "stop_strings must have at most 16 strings, got 17"),
        ({"num_beams": 17}, "num_beams must be 1–16, got 17"),
        ({"temperature": float("nan")}, "temperature must be 0–100"),
        ({"top_p": 7.0, "num_beams": 4}, "top_p must be 0–1"),
        ({"negative_prompt": "a", "negative_prompt_ids": [1]}, "give one of them"),
        ({"early_stopping": "perhaps"}, "early_stopping"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(**given)
    assert words in str(refused.value)
