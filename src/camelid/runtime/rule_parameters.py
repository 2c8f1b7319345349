"""The parameters of Transformers' `generate` that change scores or search, by their own names, as `rules` has them.

Apart from the others (generate_parameters.py) because OpenAI's and Ollama's dialects take these, too, beside the
sampling that is their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from camelid.errors import InvalidRequest
from camelid.rules import Beams, Rules


class RuleParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The parameters. Null is the same as absent."""

    early_stopping: bool | Literal["never"] | None = None
    do_sample: bool | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    top_h: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    negative_prompt_ids: list[int] | None = None
    sequence_bias: list[tuple[list[int], float]] | None = None
    encoder_repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    encoder_no_repeat_ngram_size: int | None = None
    bad_words_ids: list[list[int]] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    remove_invalid_values: bool | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    renormalize_logits: bool | None = None


def beams_of(given: RuleParameters, *, samples: bool) -> Beams | None:
    """Return the search that is asked for, None for one beam, which is none. Raises InvalidRequest."""
    num_beams = 1 if given.num_beams is None else given.num_beams
    penalty = 1.0 if given.length_penalty is None else given.length_penalty
    early = False if given.early_stopping is None else given.early_stopping
    beams = Beams(num_beams, penalty, early, samples)  # made in any case: it checks what is said
    return beams if num_beams > 1 else None


def rules_of(given: RuleParameters) -> Rules:
    """Return the rules that are asked for, which may do nothing. Raises InvalidRequest."""
    if given.negative_prompt is not None and given.negative_prompt_ids is not None:
        raise InvalidRequest("negative_prompt and negative_prompt_ids: give one of them", field="negative_prompt")
    found: dict[str, Any] = {
        "negative_prompt": given.negative_prompt or tuple(given.negative_prompt_ids or ()) or None,
        "sequence_bias": _or_none(given.sequence_bias, lambda all_: tuple((tuple(ids), bias) for ids, bias in all_)),
        "bad_words_ids": _or_none(given.bad_words_ids, lambda lists: tuple(map(tuple, lists))),
        "forced_eos_token_ids": _or_none(given.forced_eos_token_id, token_ids),
        "suppress_tokens": _or_none(given.suppress_tokens, tuple),
        "begin_suppress_tokens": _or_none(given.begin_suppress_tokens, tuple),
    }
    found |= {name: getattr(given, name) for name in Rules.__dataclass_fields__ if name not in found}
    return Rules(**{name: value for name, value in found.items() if value is not None})


def token_ids(given: int | list[int]) -> tuple[int, ...]:
    """Return one id, or several, as several."""
    return (given,) if isinstance(given, int) else tuple(given)


def _or_none(value: Any, convert: Callable[[Any], Any]) -> Any:
    return None if value is None else convert(value)
