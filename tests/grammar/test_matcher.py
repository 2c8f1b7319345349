"""A matcher says which tokens may come next, and its state depends on the ids before and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

import jsonschema
import pytest
from tools.campaign.random_schemas import random_schema

from camelid.errors import BadGrammar
from camelid.grammar import Compiler, GrammarChecker, Matcher, Vocabulary
from camelid.types import Grammar, GrammarKind
from tests.grammar.bytes_vocabulary import CONTROL, END, OTHER_END, TOKENS, allowed, compiler, ids_of

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def checker() -> Iterator[GrammarChecker]:
    checker = GrammarChecker()
    yield checker
    checker.close()


def begin(checker: GrammarChecker, grammar: Grammar) -> Matcher:
    return compiler().begin(checker.prepare(grammar))


def test_only_what_leads_to_a_match_is_allowed(checker: GrammarChecker) -> None:
    matcher = begin(checker, Grammar(GrammarKind.REGEX, "[ab]{2}(12)?"))
    assert allowed(matcher.masks()[0]) == set(ids_of("ab"))
    matcher.take(ord("a"))
    matcher.take(ord("b"))
    one_two = TOKENS.index(b"12")
    assert allowed(matcher.masks()[0]) == {ord("1"), one_two, END, OTHER_END}
    assert not matcher.is_finished
    matcher.take(one_two)
    assert matcher.is_finished
    assert allowed(matcher.masks()[0]) == {END, OTHER_END}


def test_a_control_token_is_no_text_however_it_is_spelled(checker: GrammarChecker) -> None:
    matcher = begin(checker, Grammar(GrammarKind.REGEX, "(?s:.*)"))
    assert {CONTROL, len(TOKENS) - 1}.isdisjoint(allowed(matcher.masks()[0]))
    for token in ids_of("<|start|>"):
        assert token in allowed(matcher.masks()[0])
        matcher.take(token)


def test_json_has_a_little_white_space_and_never_two_line_ends(checker: GrammarChecker) -> None:
    for text in ('{"name": "Ann", "age": 3}', '{"name":"Ann","age":3}', '{\n  "name": "Ann",\n  "age": 3\n}'):
        assert begin(checker, Grammar.schema(PERSON, "f")).num_allowed(ids_of(text)) == len(text)
    for text in ('{\n\n"name"', '{  "name"', ' {"name"', '{"name": "Ann", "age": 3 }x'):
        assert begin(checker, Grammar.schema(PERSON, "f")).num_allowed(ids_of(text)) < len(text)


def test_masks_behind_a_guess_are_those_of_going_there_and_leave_the_matcher_where_it_was(
    checker: GrammarChecker,
) -> None:
    matcher, other = (begin(checker, Grammar.schema(PERSON, "f")) for _ in range(2))
    guess = ids_of('{"name": "Ann"')
    masks = matcher.masks(guess)
    for token, mask in zip(guess, masks, strict=False):
        assert other.masks() == [mask]
        other.take(token)
    assert other.masks() == masks[-1:]
    assert matcher.masks(guess) == masks


@pytest.mark.parametrize(
    ("guess", "num_masks"), [('{"x', 3), ("[", 1), ('{"name": "A", "age": 3}', 23), ('{"name": "A", "age": 3}!!', 23)]
)
def test_a_guess_that_may_not_come_has_no_masks_behind_it(checker: GrammarChecker, guess: str, num_masks: int) -> None:
    masks = begin(checker, Grammar.schema(PERSON, "f")).masks(ids_of(guess))
    assert len(masks) == len(guess) + 1
    assert [mask is not None for mask in masks] == [index < num_masks for index in range(len(guess) + 1)]


def test_an_end_within_a_guess_has_no_masks_behind_it(checker: GrammarChecker) -> None:
    matcher = begin(checker, Grammar(GrammarKind.REGEX, "a*"))
    masks = matcher.masks([ord("a"), END, ord("a")])
    assert [mask is not None for mask in masks] == [True, True, False, False]
    assert not matcher.is_finished


def test_a_token_that_may_not_come_is_an_error_of_the_next_mask(checker: GrammarChecker) -> None:
    matcher = begin(checker, Grammar(GrammarKind.REGEX, "a+"))
    matcher.take(ord("b"))
    assert not matcher.is_finished
    with pytest.raises(BadGrammar, match="the answer cannot be kept to its grammar"):
        matcher.masks()


def test_a_vocabulary_without_an_end_follows_no_grammar() -> None:
    with pytest.raises(BadGrammar, match="no token that ends an answer"):
        Compiler(Vocabulary((b"a",), (), ()))


@pytest.mark.parametrize("seed", range(12))
def test_any_way_through_the_masks_gives_json_that_the_schema_allows(checker: GrammarChecker, seed: int) -> None:
    random = Random(seed)
    schema, value = random_schema(random)
    jsonschema.validate(value, schema)
    matcher = begin(checker, Grammar.schema(schema, "f"))
    answer = b""
    for _ in range(2000):
        choices = sorted(allowed(matcher.masks()[0]) - {END, OTHER_END})
        token = random.choice(choices)
        answer += TOKENS[token]
        matcher.take(token)
        if matcher.is_finished:
            break
    assert matcher.is_finished
    jsonschema.validate(json.loads(answer), schema)
    assert begin(checker, Grammar.schema(schema, "f")).num_allowed(list(answer)) == len(answer)
