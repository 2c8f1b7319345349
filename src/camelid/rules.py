"""The words for what changes the scores of tokens beyond `types.Sampling`, and for searching with beams.

Apart from `types` because these are many and seldom asked for: they have the names and the meaning of the parameters of
Transformers' `generate`, for those who come with its numbers. A value that exists is valid. Knows no arithmetic: that
is `backends.rules`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from camelid.errors import InvalidRequest

MAX_BEAMS = 16  # each takes the place of a sequence
MAX_RULE_IDS = 16384  # token ids in all lists of a request together: they are looked at for every token
MAX_NGRAM = 2**20

Ids = tuple[int, ...]


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise InvalidRequest naming `name` unless `value` is a number from `low` to `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidRequest(f"{name} must be {low:g}–{high:g}, got {value!r}", field=name)


def check_count(name: str, value: int, low: int, high: int) -> None:
    """Raise InvalidRequest naming `name` unless `value` is a whole number from `low` to `high`."""
    if not low <= value <= high:
        raise InvalidRequest(f"{name} must be {low}–{high}, got {value!r}", field=name)


@dataclass(frozen=True)
class Rules:
    """What Transformers' `generate` can do to scores, and `Sampling` does not name. The defaults do nothing.

    The order of all that changes scores is Transformers': guidance, `sequence_bias`, `encoder_repetition_penalty`,
    repetition penalty, `no_repeat_ngram_size`, `encoder_no_repeat_ngram_size`, `bad_words_ids`, shortest answer,
    `forced_bos_token_id`, `forced_eos_token_ids`, `remove_invalid_values`, `exponential_decay_length_penalty`,
    `suppress_tokens`, `begin_suppress_tokens`; then, where a token is drawn and not just the likeliest taken:
    temperature, `top_h`, top_k, top_p, min_p, typical_p, `epsilon_cutoff`, `eta_cutoff`; at the end
    `renormalize_logits`. Camelid's mask of a grammar and logit_bias come first of all.

    guidance_scale: classifier-free guidance, against the prompt `negative_prompt` (the prompt's last token if empty).
    sequence_bias: what is added to the score of the last token of a sequence behind the tokens before it.
    exponential_decay_length_penalty: after how many tokens end tokens become likelier, and the factor of each step.
    """

    guidance_scale: float = 1.0
    negative_prompt: str | Ids = ()
    sequence_bias: tuple[tuple[Ids, float], ...] = ()
    encoder_repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[Ids, ...] = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_ids: Ids = ()
    remove_invalid_values: bool = False
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: Ids = ()
    begin_suppress_tokens: Ids = ()
    top_h: float | None = None
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    renormalize_logits: bool = False

    def __post_init__(self) -> None:
        check_range("guidance_scale", self.guidance_scale, -100.0, 100.0)
        check_range("encoder_repetition_penalty", self.encoder_repetition_penalty, 0.01, 100.0)
        check_count("no_repeat_ngram_size", self.no_repeat_ngram_size, 0, MAX_NGRAM)
        check_count("encoder_no_repeat_ngram_size", self.encoder_no_repeat_ngram_size, 0, MAX_NGRAM)
        for name in ("epsilon_cutoff", "eta_cutoff"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidRequest(f"{name} must be at least 0 and below 1, got {getattr(self, name)}", field=name)
        if self.top_h is not None and not 0 < self.top_h <= 1:
            raise InvalidRequest(f"top_h must be above 0 and at most 1, got {self.top_h}", field="top_h")
        if self.exponential_decay_length_penalty is not None:
            start, factor = self.exponential_decay_length_penalty
            check_count("exponential_decay_length_penalty", start, 0, 2**31 - 1)
            check_range("exponential_decay_length_penalty", factor, 0.0, 100.0)
        for _, bias in self.sequence_bias:
            if math.isnan(bias) or bias == math.inf:
                raise InvalidRequest(f"a sequence_bias must be a number, got {bias}", field="sequence_bias")
        if self.forced_eos_token_ids and set(self.forced_eos_token_ids) <= set(self.suppress_tokens):
            raise InvalidRequest(
                f"suppress_tokens must leave one of forced_eos_token_ids, {list(self.forced_eos_token_ids)}",
                field="suppress_tokens",
            )
        self._check_ids()

    def ids_by_name(self) -> dict[str, tuple[Ids, ...]]:
        """Return the token ids of each field that has some."""
        forced = () if self.forced_bos_token_id is None else ((self.forced_bos_token_id,),)
        found: dict[str, tuple[Ids, ...]] = {
            "sequence_bias": tuple(ids for ids, _ in self.sequence_bias),
            "bad_words_ids": self.bad_words_ids,
            "forced_bos_token_id": forced,
            "forced_eos_token_ids": (self.forced_eos_token_ids,) if self.forced_eos_token_ids else (),
            "suppress_tokens": (self.suppress_tokens,) if self.suppress_tokens else (),
            "begin_suppress_tokens": (self.begin_suppress_tokens,) if self.begin_suppress_tokens else (),
        }
        return {name: lists for name, lists in found.items() if lists}

    def _check_ids(self) -> None:
        total = 0
        for name, lists in self.ids_by_name().items():
            total += sum(map(len, lists))
            for ids in lists:
                if not ids or any(not 0 <= token < 2**31 for token in ids):
                    raise InvalidRequest(f"{name} must hold token ids, at least one in each list", field=name)
            if total > MAX_RULE_IDS:
                raise InvalidRequest(f"{name} and the like must have at most {MAX_RULE_IDS} ids", field=name)

    @property
    def is_plain(self) -> bool:
        """True where nothing is asked for."""
        return all(getattr(self, one.name) == one.default for one in fields(self))

    @property
    def guides(self) -> bool:
        """True where a second prompt is computed beside the first."""
        return self.guidance_scale != 1


@dataclass(frozen=True)
class Beams:
    """Search for the best whole answers instead of drawing one token after the other.

    Kept at a time are the `num_beams` best beginnings. `samples` draws how they go on (temperature and the filters
    count) instead of taking the likeliest (they do not). A finished answer has the sum of its tokens' log-probabilities
    divided by its length to the power of `length_penalty` as its score. `early_stopping`: True ends as soon as there
    are `num_beams` answers, False when the best beginning is, at its length, no better than the worst of them, "never"
    when none can become better.
    """

    num_beams: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    samples: bool = False

    def __post_init__(self) -> None:
        check_count("num_beams", self.num_beams, 1, MAX_BEAMS)
        check_range("length_penalty", self.length_penalty, -100.0, 100.0)
        if self.early_stopping not in (True, False, "never"):
            raise InvalidRequest(
                f'early_stopping must be true, false or "never", got {self.early_stopping!r}', field="early_stopping"
            )
