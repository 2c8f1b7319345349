"""Classifier-free guidance: an answer is continued behind two prompts at once, and their difference decides.

Apart from the scheduler, which runs both in the same steps, and from the sampler, which computes with both rows,
because this is where the second one comes from and whether it fits. The guide's answer is the guided one's, token by
token; it draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import replace

from camelid.backends.base import PAGE_TOKENS

from .request import GenerateRequest
from .sequence import Sequence, pages_for

SPARE_PAGES = 2  # one for each of the two, while the other waits for it


def guides_of(sequences: Ordered[Sequence], context_length: int) -> list[Sequence]:
    """Return a guide for each choice of a request, behind the prompt that guides: its last token if none is given."""
    request = sequences[0].request
    behind = replace(request, prompt=guiding_prompt(request), grammar=None, scores_prompt=False)
    return [_guide(sequence, behind, context_length) for sequence in sequences]


def _guide(sequence: Sequence, behind: GenerateRequest, context_length: int) -> Sequence:
    guide = Sequence(behind, sequence.choice, sequence.age[0], context_length, adapter=sequence.adapter)
    guide.age = (*sequence.age[:2], True)  # right behind what it guides, so that nothing between can starve one of them
    sequence.guide, guide.guided = guide, sequence
    return guide


def guiding_prompt(request: GenerateRequest) -> tuple[int, ...]:
    """Return the prompt that guides, as Transformers takes it where none is given."""
    return request.guide or request.prompt[-1:]


def most_guided_pages(num_prompt: int, num_guide: int, max_answer: int) -> int:
    """Return how many pages an answer and its guide need at most to come to their end."""
    return sum(pages_for(count + max_answer - 1) for count in (num_prompt, num_guide)) + SPARE_PAGES


def most_guided_answer(num_prompt: int, num_guide: int, num_pages: int) -> int:
    """Return how long an answer with a guide may be in so many pages; below 1 there is no room."""
    taken = pages_for(num_prompt) + pages_for(num_guide) + SPARE_PAGES
    return (num_pages - taken) // 2 * PAGE_TOKENS + 1
