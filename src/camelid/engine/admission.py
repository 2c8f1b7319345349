"""What a request must be so that the engine can carry it to its end: checked once, before it is queued."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from camelid.errors import ContextOverflow, InvalidRequest
from camelid.rules import Beams
from camelid.types import MAX_CHOICES, MAX_TOP_LOGPROBS

from .beam_group import most_answer, most_pages
from .guidance import guiding_prompt, most_guided_answer, most_guided_pages
from .request import GenerateRequest
from .settings import EngineSettings

MAX_PROMPT_SCORES = 2**17  # that one request may ask for: they travel in one message
SHORTEST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
FIRST_RETRY_S = 5.0  # while nothing has finished yet, so that nothing is measured


def check_request(request: GenerateRequest, settings: EngineSettings) -> None:
    """Raise ContextOverflow or InvalidRequest if the request cannot be carried to its end."""
    if not request.prompt:
        raise InvalidRequest("the prompt must have at least one token", field="prompt")
    if len(request.prompt) >= settings.context_length:
        raise ContextOverflow(
            len(request.prompt) + 1, settings.context_length, what="the prompt, with room for one token of answer,"
        )
    _check_range("max_tokens", request.max_tokens, 1, 2**31 - 1)
    _check_range("min_tokens", request.min_tokens, 0, request.max_tokens)
    _check_range("n", request.num_choices, 1, MAX_CHOICES)
    if request.top_logprobs is not None:
        _check_range("top_logprobs", request.top_logprobs, 0, MAX_TOP_LOGPROBS)
    if request.scores_prompt:
        num_scores = len(request.prompt) * (1 + (request.top_logprobs or 0))
        _check_range("prompt tokens × (1 + top_logprobs)", num_scores, 1, MAX_PROMPT_SCORES, field="logprobs")
    _check_answers(request, settings)
    _check_ids("prompt", request.prompt, settings)
    _check_ids("end_ids", request.end_ids, settings)
    _check_ids("logit_bias", request.sampling.logit_bias, settings)
    if request.rules is not None:
        for name, lists in request.rules.ids_by_name().items():
            for ids in lists:
                _check_ids(name, ids, settings)
    if request.rules is not None and request.rules.guides:
        _check_guide(request, settings)
    if request.beams is not None:
        _check_beams(request, request.beams, settings)


def _check_beams(request: GenerateRequest, beams: Beams, settings: EngineSettings) -> None:
    """Check that a search fits, whatever its beams come to hold."""
    _check_range("num_beams", beams.num_beams, request.num_choices, settings.max_sequences)
    num_prompt = len(request.prompt)
    max_answer = min(request.max_tokens, settings.context_length - num_prompt)
    if most_pages(num_prompt, max_answer, beams.num_beams) > settings.num_pages:
        most = most_answer(num_prompt, beams.num_beams, settings.num_pages)
        raise InvalidRequest(
            f"{beams.num_beams} beams of {max_answer} tokens do not fit into the cache of {settings.num_pages} pages",
            field="max_tokens",
            hint=f"ask for max_tokens up to {most}, or for fewer beams" if most > 0 else "ask for fewer beams",
        )


def _check_guide(request: GenerateRequest, settings: EngineSettings) -> None:
    """Check that an answer and its guide fit, alone with each other."""
    _check_ids("negative_prompt", request.guide, settings)
    if request.beams is not None:
        raise InvalidRequest("guidance_scale cannot be kept together with num_beams", field="guidance_scale")
    if settings.max_sequences < 2:
        raise InvalidRequest("guidance_scale needs room for two sequences at a time", field="guidance_scale")
    num_prompt, num_guide = len(request.prompt), len(guiding_prompt(request))
    max_answer = min(request.max_tokens, settings.context_length - num_prompt)
    if num_guide + max_answer > settings.context_length:
        raise ContextOverflow(
            num_guide + max_answer, settings.context_length, what="the negative prompt with an answer"
        )
    if most_guided_pages(num_prompt, num_guide, max_answer) > settings.num_pages:
        most = most_guided_answer(num_prompt, num_guide, settings.num_pages)
        raise InvalidRequest(
            f"an answer of {max_answer} tokens and its guide do not fit into the cache of {settings.num_pages} pages",
            field="max_tokens",
            hint=f"ask for max_tokens up to {most}" if most > 0 else "ask without guidance_scale",
        )


def _check_answers(request: GenerateRequest, settings: EngineSettings) -> None:
    """Check what a resumed request brings along: it must leave something to generate."""
    if request.answers and len(request.answers) != request.num_choices:
        raise InvalidRequest(
            f"answers must be empty or one for each of {request.num_choices} choices, got {len(request.answers)}",
            field="answers",
        )
    if not request.finished < frozenset(range(request.num_choices)):
        raise InvalidRequest(
            f"finished must leave one of {request.num_choices} choices, got {sorted(request.finished)}",
            field="finished",
        )
    longest = min(request.max_tokens, settings.context_length - len(request.prompt)) - 1
    for choice, answer in enumerate(request.answers):
        if choice not in request.finished:
            _check_range(f"length of answer {choice}", len(answer), 0, longest, field="answers")
            _check_ids("answers", answer, settings)


def _check_range(name: str, value: int, low: int, high: int, *, field: str | None = None) -> None:
    if not low <= value <= high:
        raise InvalidRequest(f"{name} must be {low}–{high}, got {value}", field=field or name)


def _check_ids(name: str, ids: Iterable[int], settings: EngineSettings) -> None:
    for token in ids:
        if not 0 <= token < settings.vocabulary_size:
            raise InvalidRequest(
                f"{name} must hold token ids from 0 to {settings.vocabulary_size - 1}, got {token}", field=name
            )


class FinishRate:
    """How fast answers have been finishing, to tell a refused caller when to come back."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=32)

    def note(self, now_s: float) -> None:
        """Remember that an answer finished."""
        self._times_s.append(now_s)

    def retry_after_s(self, now_s: float) -> float:
        """Estimate when the next one finishes, and with it a place in the queue is free."""
        if not self._times_s:
            return FIRST_RETRY_S
        mean_s = (now_s - self._times_s[0]) / len(self._times_s)
        return min(max(mean_s, SHORTEST_RETRY_S), LONGEST_RETRY_S)
