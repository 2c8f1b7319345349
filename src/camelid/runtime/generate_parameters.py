"""The parameters of Transformers' `generate`, by their own names and with their own meaning, as our requests.

For the library's `generate` and for the route `predict`, which promise "any parameter of generate": each one is
honoured, or has nothing to change here, or is refused by name. What the numbers do is said in `types.Sampling`,
`rules.Rules` and `rules.Beams`; here they are only found. Source: GenerationConfig of transformers 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import Generation, Sampling, Stopping

from .rule_parameters import RuleParameters, beams_of, rules_of, token_ids

Refused = Any
_REMOTE = "Transformers itself keeps it outside of its core, as code to be fetched"
_ONE_MODEL = "there is no second model; text that was there before is guessed from, without being asked"

# Fields that no value but null is taken for, each with what to say about it.
REFUSED: Mapping[str, str | None] = {
    "constraints": _REMOTE,
    "force_words_ids": _REMOTE,
    "watermarking_config": None,
    "assistant_early_exit": _ONE_MODEL,
    "generation_config": "give its values as parameters",
    "logits_processor": "code cannot be sent",
    "stopping_criteria": "code cannot be sent; see stop_strings, max_time, eos_token_id",
    "prefix_allowed_tokens_fn": "code cannot be sent",
    "custom_generate": "code cannot be sent",
    "streamer": "set stream",
    "cache_implementation": "the cache is paged, with its type in the settings (cache_type)",
    "cache_config": "the cache is paged, with its type in the settings (cache_type)",
}

# Fields that are taken in the values that ask for nothing that Camelid does not do.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "penalty_alpha": (0, 0.0),
    "dola_layers": (),
    "num_beam_groups": (1,),
    "diversity_penalty": (0, 0.0),
    "output_logits": (False,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "trust_remote_code": (False,),
    "synced_gpus": (False,),
}
_THEIR_NAMES = {
    "n": "num_return_sequences",
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "max_seconds": "max_time",
    "stop": "stop_strings",
    "forced_eos_token_ids": "forced_eos_token_id",
}
_REMOTE_TOO = ("penalty_alpha", "dola_layers", "num_beam_groups", "diversity_penalty")


class GenerateParameters(RuleParameters, kw_only=True, forbid_unknown_fields=True):
    """The parameters, all of them. `seed` is ours: Transformers draws from a generator that the process shares."""

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    max_time: float | None = None
    stop_strings: str | list[str] | None = None
    num_return_sequences: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    eos_token_id: int | list[int] | None = None
    output_scores: bool | None = None
    seed: int | None = None
    # taken, with nothing to change
    use_cache: bool | None = None
    return_dict_in_generate: bool | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    num_assistant_tokens: int | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None
    # taken in some values only, or not at all: see NEUTRAL and REFUSED
    penalty_alpha: Refused = None
    dola_layers: Refused = None
    num_beam_groups: Refused = None
    diversity_penalty: Refused = None
    output_logits: Refused = None
    output_attentions: Refused = None
    output_hidden_states: Refused = None
    trust_remote_code: Refused = None
    synced_gpus: Refused = None
    constraints: Refused = None
    force_words_ids: Refused = None
    watermarking_config: Refused = None
    assistant_early_exit: Refused = None
    generation_config: Refused = None
    logits_processor: Refused = None
    stopping_criteria: Refused = None
    prefix_allowed_tokens_fn: Refused = None
    custom_generate: Refused = None
    streamer: Refused = None
    cache_implementation: Refused = None
    cache_config: Refused = None


def to_generation(given: GenerateParameters, seed: int, recommended: Sampling) -> Generation:
    """Return what the parameters ask for.

    seed: of the draws; the parameter of that name is read by who calls. recommended: what holds where nothing is said.
    Without `do_sample` tokens are drawn if the recommended temperature says so, but not with several beams. Raises
    InvalidRequest.
    """
    _refuse(given)
    try:
        return _generation(given, seed, recommended)
    except InvalidRequest as error:
        raise _in_their_words(error) from error


def _generation(given: GenerateParameters, seed: int, recommended: Sampling) -> Generation:
    num_beams = 1 if given.num_beams is None else given.num_beams
    draws = _draws(given, num_beams, recommended)
    rules = rules_of(given)
    return Generation(
        sampling=_sampling(given, seed, recommended, draws=draws, searches=num_beams > 1),
        stopping=_stopping(given),
        num_choices=_num_choices(given, num_beams, draws=draws),
        top_logprobs=0 if given.output_scores else None,
        rules=None if rules.is_plain and given.typical_p in (None, 1) else rules,
        beams=beams_of(given, samples=draws),
    )


def _in_their_words(error: InvalidRequest) -> InvalidRequest:
    """Return an error about one of our fields by the name that it has in Transformers."""
    theirs = _THEIR_NAMES.get(error.field or "")
    if theirs is None:
        return error
    message = error.message
    for ours, name in _THEIR_NAMES.items():
        message = re.sub(rf"\b{ours}\b(?! string)", name, message)
    return InvalidRequest(message, field=theirs, hint=error.hint)


def _refuse(given: GenerateParameters) -> None:
    for name in given.__struct_fields__:
        value = getattr(given, name)
        if value is None or (name not in REFUSED and name not in NEUTRAL):
            continue
        if name in REFUSED:
            raise InvalidRequest(f"{name} is not supported", field=name, hint=REFUSED[name])
        if not any(value is one or (value == one and type(value) is type(one)) for one in NEUTRAL[name]):
            hint = _REMOTE if name in _REMOTE_TOO else None
            raise InvalidRequest(f"{name} is not supported, but for its default", field=name, hint=hint)


def _draws(given: GenerateParameters, num_beams: int, recommended: Sampling) -> bool:
    if given.do_sample is not None:
        return given.do_sample
    return num_beams == 1 and _or(given.temperature, recommended.temperature) != 0


def _num_choices(given: GenerateParameters, num_beams: int, *, draws: bool) -> int:
    name = "num_return_sequences"
    count = 1 if given.num_return_sequences is None else given.num_return_sequences
    if num_beams == 1 and not draws and count > 1:
        raise InvalidRequest(
            f"{name} must be 1 where the likeliest token is always taken, got {count}",
            field=name,
            hint="set do_sample, or more than one of num_beams",
        )
    if 1 < num_beams < count:
        raise InvalidRequest(f"{name} must be at most num_beams ({num_beams}), got {count}", field=name)
    return count


def _sampling(given: GenerateParameters, seed: int, recommended: Sampling, *, draws: bool, searches: bool) -> Sampling:
    """Return how tokens are drawn. Temperature and filters count for draws only, as in Transformers."""
    names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
    said = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    drawn = replace(recommended, **said, seed=seed)  # made in any case: it checks what is said
    if draws:
        return drawn
    temperature = 1.0 if searches else 0.0
    return Sampling(temperature, repetition_penalty=drawn.repetition_penalty, seed=seed)


def _stopping(given: GenerateParameters) -> Stopping:
    stop = given.stop_strings
    return Stopping(
        max_tokens=given.max_new_tokens,
        min_tokens=_or(given.min_new_tokens, 0),
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        max_length=given.max_length,
        min_length=_or(given.min_length, 0),
        max_seconds=given.max_time,
        end_ids=None if given.eos_token_id is None else token_ids(given.eos_token_id),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
