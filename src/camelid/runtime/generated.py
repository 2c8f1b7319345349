"""What the library's `generate` is given and what it returns: ids and texts, by Transformers' names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from camelid.errors import InvalidRequest
from camelid.types import FinishReason, Message, TokenScore, Usage

from .collected import Answer
from .generate_parameters import GenerateParameters

Conversation = Sequence[Message | Mapping[str, Any]]
Input = str | Sequence[int] | Conversation
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$")


@dataclass(frozen=True)
class Generated:
    """Answers, `num_return_sequences` for each input, those of the first input first.

    `sequences` are the ids of prompt and answer, the end token included, without padding; `texts` are those of the
    answers alone, without control tokens. `scores` holds the log-probabilities of each answer's tokens where
    `output_scores` is asked for, `sequences_scores` those of a search with beams. Counts in `usage` are of all inputs.
    """

    sequences: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    finish_reasons: tuple[FinishReason, ...]
    usage: Usage
    scores: tuple[tuple[TokenScore, ...], ...] | None = None
    sequences_scores: tuple[float, ...] | None = None


def parameters_of(given: Mapping[str, Any]) -> GenerateParameters:
    """Return parameters by name as a value. Raises InvalidRequest naming what is unknown or of a wrong type."""
    plain = dict(given)
    if isinstance(bias := plain.get("sequence_bias"), Mapping):  # as Transformers writes it: ids → bias
        plain["sequence_bias"] = [[list(ids), value] for ids, value in bias.items()]
    try:
        return msgspec.convert(plain, GenerateParameters)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def inputs_of(given: Input | Sequence[Input]) -> list[Input]:
    """Return the inputs of a call: one text, its ids or a conversation, or a list of such."""
    if isinstance(given, str) or not given or not _is_batch(given):
        return [cast("Input", given)]
    return list(cast("Sequence[Input]", given))


def is_conversation(given: Input) -> bool:
    """Tell whether an input is a list of messages."""
    return not isinstance(given, str) and bool(given) and isinstance(given[0], (Message, Mapping))


def generated(prompts: Sequence[Sequence[int]], answers: Sequence[Answer], parameters: GenerateParameters) -> Generated:
    """Return what the answers to `prompts` make up."""
    pairs = [(prompt, choice) for prompt, one in zip(prompts, answers, strict=True) for choice in one.choices]
    searches = (parameters.num_beams or 1) > 1
    return Generated(
        sequences=tuple((*prompt, *choice.ids) for prompt, choice in pairs),
        texts=tuple(choice.text + (choice.stop or "") for _, choice in pairs),
        finish_reasons=tuple(choice.finish_reason for _, choice in pairs),
        usage=Usage(
            sum(answer.usage.prompt_tokens for answer in answers),
            sum(answer.usage.completion_tokens for answer in answers),
            sum(answer.usage.cached_tokens for answer in answers),
        ),
        scores=tuple(choice.scores for _, choice in pairs) if parameters.output_scores else None,
        sequences_scores=tuple(choice.score or 0.0 for _, choice in pairs) if searches else None,
    )


def _is_batch(given: Sequence[Any]) -> bool:
    return not isinstance(given[0], (int, Message, Mapping))


def _invalid(text: str) -> InvalidRequest:
    place = _PLACE.match(text)
    what, path = (place["what"], place["path"]) if place else (text, None)
    if unknown := _UNKNOWN.match(what):
        return InvalidRequest(f"there is no parameter {unknown['name']!r}", field=unknown["name"])
    return InvalidRequest(f"{path}: {what[:1].lower()}{what[1:]}", field=path)
