"""Answers under a grammar: complete, ended by it, and the same bytes whatever else the engine does (decision 4)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.engine.drive import VOCABULARY as NUM_TOKENS
from tests.engine.drive import Answers, fake_engine, request, run_to_end, without_cache

from camelid.engine.engine import Engine
from camelid.engine.request import GenerateRequest
from camelid.errors import BadGrammar, InvalidRequest, RequestsFailed
from camelid.grammar import GrammarChecker, Vocabulary
from camelid.types import FinishReason, Grammar, GrammarKind, Sampling

END = 11
TOKENS = tuple(b"<|end|>" if token == END else bytes([ord("0") + token]) for token in range(NUM_TOKENS))
VOCABULARY = Vocabulary(TOKENS, (END,), (END,))
PATTERNS = (
    r"[0-9]{2,6}(=[A-Z]{3,9}){2,5}",
    r"([A-E]{1,3}[0-9])+",
    r"(([A-Z])(;[0-4]{8})?){3,20}",
    "0123456789=A=A=A=A",
)
LONG = Sampling(seed=7, logit_bias={END: -100})


@pytest.fixture(scope="module")
def sources() -> Iterator[dict[str, str]]:
    """The patterns as engines take them."""
    checker = GrammarChecker()
    yield {pattern: checker.prepare(Grammar(GrammarKind.REGEX, pattern)) for pattern in PATTERNS}
    checker.close()


@pytest.fixture(scope="module")
def requests(sources: dict[str, str]) -> list[GenerateRequest]:
    samplings = (
        Sampling(temperature=0),
        Sampling(seed=3),
        Sampling(seed=4, top_k=5, top_p=0.9, repetition_penalty=1.3),
        Sampling(seed=5, temperature=2, logit_bias={20: -100}),
    )
    return [
        request(
            f"r{number}",
            length,
            sampling=samplings[number % 4],
            grammar=sources[PATTERNS[number % 3]],
            max_tokens=60,
            end_ids=frozenset({END}),
        )
        for number, length in enumerate((5, 40, 33, 64, 1, 20, 70, 32))
    ] + [
        request("free", 20, max_tokens=30),
        request("r8", 10, grammar=sources[PATTERNS[3]], max_tokens=30),
        *(request(f"long{n}", n, sampling=LONG, grammar=sources[PATTERNS[1]], max_tokens=110) for n in (30, 40, 50)),
    ]


@pytest.fixture(scope="module")
def alone(requests: list[GenerateRequest]) -> Answers:
    return {key: tokens for each in requests for key, tokens in run_to_end(engine(), [each]).items()}


def engine(**settings: Any) -> Engine:
    made = fake_engine(**settings)
    made.learn(VOCABULARY)
    return made


def text_of(answers: Answers, id_: str, choice: int = 0) -> str:
    return b"".join(TOKENS[token.id] for token in answers[id_, choice] if token.id != END).decode()


def test_an_answer_matches_and_ends_with_its_grammar(alone: Answers) -> None:
    for number in range(8):
        tokens, text = alone[f"r{number}", 0], text_of(alone, f"r{number}")
        if tokens[-1].finish is FinishReason.STOP:
            assert re.fullmatch(PATTERNS[number % 3], text)
        else:
            assert (tokens[-1].finish, len(tokens)) == (FinishReason.LENGTH, 60)
    assert sum(alone[f"r{number}", 0][-1].finish is FinishReason.STOP for number in range(8)) >= 5
    assert text_of(alone, "r8") == PATTERNS[3]


def test_an_answer_ends_at_once_where_nothing_can_follow(alone: Answers) -> None:
    assert [token.finish for token in alone["r8", 0]] == [None] * 17 + [FinishReason.STOP]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_batch_tokens": 7},
        {"num_pages": 8, "max_sequences": 8},  # so few that sequences are preempted
        {"max_guessed": 6},
        {"max_guessed": 3, "num_pages": 8, "max_batch_tokens": 33},
    ],
)
def test_the_same_bytes_among_others_in_chunks_after_preemptions_and_with_guesses(
    requests: list[GenerateRequest], alone: Answers, settings: dict[str, int]
) -> None:
    made = engine(**settings)
    assert without_cache(run_to_end(made, requests)) == without_cache(alone)
    if settings.get("num_pages"):
        assert made.stats()["preemptions"] > 0
    if settings.get("max_guessed"):
        assert made.stats()["right_guesses"] > 0


@pytest.mark.parametrize("number", range(9))
def test_a_resumed_answer_goes_on_as_it_would_have(
    requests: list[GenerateRequest], alone: Answers, number: int
) -> None:
    whole = alone[f"r{number}", 0]
    asked = next(each for each in requests if each.id == f"r{number}")
    for cut in range(0, len(whole) - 1, 5):
        begun = tuple(token.id for token in whole[: cut + 1])
        resumed = run_to_end(engine(), [replace(asked, answers=(begun,))])
        assert without_cache(resumed)[f"r{number}", 0] == whole[cut + 1 :]


def test_choices_follow_the_grammar_each_for_itself(requests: list[GenerateRequest]) -> None:
    asked = replace(requests[1], num_choices=3)
    answers = run_to_end(engine(), [asked])
    texts = [text_of(answers, asked.id, choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert texts[0] == text_of(run_to_end(engine(), [requests[1]]), asked.id)


def test_an_answer_that_cannot_go_on_is_given_up_alone(requests: list[GenerateRequest], alone: Answers) -> None:
    made = engine()
    wrong = replace(requests[1], id="wrong", answers=((45, 45),))  # which its grammar does not allow
    made.submit(wrong)
    made.submit(requests[0])
    with pytest.raises(RequestsFailed) as caught:
        run_to_end(made)
    assert caught.value.request_ids == ("wrong",)
    assert "cannot be kept to its grammar" in caught.value.message
    assert without_cache(run_to_end(made))["r0", 0] == without_cache(alone)["r0", 0]


def test_a_grammar_is_compiled_beside_the_steps_or_when_it_is_needed(requests: list[GenerateRequest]) -> None:
    made = engine()
    waits_for = made.prepare(requests[0])
    assert waits_for is not None
    waits_for.result(timeout=60)
    assert made.prepare(requests[0]) is None
    assert made.prepare(request("free")) is None
    made.close()


def test_what_is_no_grammar_is_refused_and_an_engine_without_a_vocabulary_refuses_all() -> None:
    with pytest.raises(BadGrammar, match="cannot be compiled"):
        engine().submit(request(grammar=json.dumps({"grammars": [{"json_schema": {"type": "nonsense"}}]})))
    with pytest.raises(InvalidRequest, match="knows no vocabulary"):
        fake_engine().submit(request(grammar="start: /a/"))
