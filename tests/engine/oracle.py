"""What an answer is: one token after the other, no batch, no pages, no scheduler. And what must hold between steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from tests.fakes import FakeHistory, logits_of

from camelid.backends.base import Draw, SpreadDraw
from camelid.backends.sampling import sample
from camelid.engine.beams import BeamSearch, Link
from camelid.engine.engine import Engine
from camelid.engine.guidance import guiding_prompt
from camelid.engine.request import GenerateRequest, Score, Token
from camelid.engine.sequence import pages_for
from camelid.types import FinishReason, Sampling


def answer_of(request: GenerateRequest, choice: int, context_length: int, vocabulary_size: int) -> list[Token]:
    """Return all tokens of one choice of a new request on the fake model, with `cached_tokens` left 0."""
    if request.beams is not None:
        return found_of(request, choice, context_length, vocabulary_size)
    tokens: list[Token] = []
    answer: list[int] = []
    history = FakeHistory()
    scores = []
    for number, token in enumerate(request.prompt):
        if number and request.scores_prompt and choice == 0:
            draw = Draw(Sampling(), 0, number, (), (), top_logprobs=request.top_logprobs or 0, given=token)
            drawn = sample(logits_of(history.total, vocabulary_size)[None], [draw])[0]
            scores.append(Score(drawn.logprob or 0.0, drawn.top))
        history.extend([token])
    guide = FakeHistory()
    guide.extend([*guiding_prompt(request)])
    while not tokens or tokens[-1].finish is None:
        banned = request.end_ids if len(answer) < request.min_tokens else frozenset()
        draw = Draw(
            request.sampling,
            choice,
            history.num_tokens,
            request.prompt,
            answer,
            banned,
            request.top_logprobs,
            rules=request.rules,
            ends=request.end_ids,
        )
        rows = np.stack([logits_of(one.total, vocabulary_size) for one in (history, guide)])
        drawn = sample(rows, [draw, Draw(Sampling(), 0, 0, (), (), is_guide=True)])[0]
        answer.append(drawn.id)
        history.extend([drawn.id])
        guide.extend([drawn.id])
        finish = None
        if drawn.id in request.end_ids:
            finish = FinishReason.STOP
        elif len(answer) == request.max_tokens or len(request.prompt) + len(answer) == context_length:
            finish = FinishReason.LENGTH
        tokens.append(Token(request.id, choice, len(answer) - 1, drawn.id, finish, drawn.logprob, drawn.top))
    tokens[0] = replace(tokens[0], prompt_scores=tuple(scores))
    return tokens


def found_of(request: GenerateRequest, choice: int, context_length: int, vocabulary_size: int) -> list[Token]:
    """Return all tokens of one answer of a search, every beam computed from its first token on."""
    assert request.beams is not None
    most_tokens = min(request.max_tokens, context_length - len(request.prompt))
    ends = request.end_ids
    search = BeamSearch(request.beams, len(ends), most_tokens, lambda parent, token: token in ends)
    keep = search.num_candidates // request.beams.num_beams
    spread = SpreadDraw(search.num_candidates, request.beams.samples, keep)
    beams: list[Link | None] = [None]
    while True:
        rows = []
        for number, link in enumerate(beams):
            answer = [] if link is None else [one.token for one in link.path()]
            history = FakeHistory()
            history.extend([*request.prompt, *answer])
            draw = Draw(
                request.sampling,
                number,
                history.num_tokens,
                request.prompt,
                answer,
                ends if len(answer) < request.min_tokens else frozenset(),
                request.top_logprobs,
                rules=request.rules,
                ends=ends,
                is_last=len(answer) + 1 >= most_tokens,
                spread=spread,
            )
            rows.append(sample(logits_of(history.total, vocabulary_size)[None], [draw])[0])
        if search.take(rows) is None:
            break
        beams = list(search.running)
    found = search.best(request.num_choices)[choice]
    finish = FinishReason.STOP if found.link.is_end else FinishReason.LENGTH
    path = found.link.path()
    return [
        Token(
            request.id,
            choice,
            index,
            one.token,
            finish if one is path[-1] else None,
            one.logprob,
            one.top,
            score=found.score,
        )
        for index, one in enumerate(path)
    ]


def check_invariants(engine: Engine) -> None:
    """Raise AssertionError unless every page and every sequence is accounted for, between two steps."""
    scheduler = engine._scheduler
    pool = scheduler.pool
    held: Counter[int] = Counter()
    for sequence in scheduler.running:
        held.update(sequence.pages)
        held.update(sequence.page_copy[:1] if sequence.page_copy else ())
        assert len(set(sequence.pages)) == len(sequence.pages)
        assert sequence.num_computed < sequence.num_tokens
        assert pages_for(sequence.num_computed) <= len(sequence.pages)
    assert [held[page] for page in range(pool.num_pages)] == pool._holders
    free, idle = set(pool._free), set(pool._idle)
    assert free.isdisjoint(idle)
    assert len(free) == len(pool._free)
    assert free | idle | set(held) == set(range(pool.num_pages))
    assert pool.num_held == len(held)
    assert {page: digest for digest, page in pool._page_of.items()} == pool._digest_of
    assert idle <= set(pool._digest_of)
    assert free.isdisjoint(pool._digest_of)
    for group in (scheduler.waiting, scheduler.running):
        ages = [sequence.age for sequence in group]
        assert ages == sorted(set(ages))
    for sequence in scheduler.waiting:
        assert (sequence.pages, sequence.page_copy, sequence.num_computed) == ([], None, 0)
    hidden = [follower for leader in (*scheduler.waiting, *scheduler.running) for follower in leader.followers]
    known = Counter(
        member
        for sequences in engine._requests.values()
        for s in sequences
        for member in (s.group.members if s.group is not None else [s])
    )
    assert known == Counter([*scheduler.waiting, *scheduler.running, *hidden])
    assert len(scheduler.running) <= engine.settings.max_sequences
