"""All answers to one request: what comes together is written together, and the usage stands at the end."""

from __future__ import annotations

from camelid.engine.request import Token
from camelid.runtime.growing_answer import GrowingAnswer
from camelid.runtime.growing_answers import GrowingAnswers
from camelid.runtime.model import TextSide
from camelid.types import Finished, FinishReason, Generation, Started, Stopping, Text, TokenScore, Usage

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


def growing(text: TextSide, num_choices: int = 1, *stops: str) -> GrowingAnswers:
    generation = Generation(stopping=Stopping(stop=stops))
    return GrowingAnswers([GrowingAnswer(n, text.tokenizer, generation) for n in range(num_choices)], range(5))


def tokens(
    text: TextSide, words: str, choice: int = 0, finish: FinishReason | None = None, *, is_scored: bool = False
) -> list[Token]:
    ids = text.tokenizer.encode(words)
    score = -0.5 if is_scored else None
    made = [Token("r", choice, index, token_id, None, score) for index, token_id in enumerate(ids)]
    return [*made[:-1], Token("r", choice, len(ids) - 1, ids[-1], finish, score)]


def test_tokens_that_come_together_are_one_piece_of_text(cria_text: TextSide) -> None:
    arrived = tokens(cria_text, "The herd crossed the pass.", finish=LENGTH)
    assert len(arrived) > 2
    assert growing(cria_text).take(arrived) == [
        Started(5, 0),
        Text("The herd crossed the pass."),
        Finished(LENGTH, usage=Usage(5, len(arrived), 0)),
    ]


def test_tokens_that_come_alone_are_pieces_of_their_own(cria_text: TextSide) -> None:
    answers = growing(cria_text)
    arrived = tokens(cria_text, "The herd crossed the pass.")
    pieces = [event for token in arrived for event in answers.take([token]) if isinstance(event, Text)]
    assert len(pieces) == len(arrived)
    assert "".join(piece.text for piece in pieces) == "The herd crossed the pass."


def test_choices_are_not_mixed_and_scores_stay_with_their_text(cria_text: TextSide) -> None:
    first, second = (tokens(cria_text, words, n, is_scored=True) for n, words in enumerate(("one two", "three four")))
    events = growing(cria_text, 2).take([*first, *second])
    assert [(event.text, event.choice) for event in events if isinstance(event, Text)] == [
        ("one two", 0),
        ("three four", 1),
    ]
    scores = [score for event in events if isinstance(event, Text) for score in event.scores]
    assert scores == [
        TokenScore(token.id, cria_text.tokenizer.token_bytes(token.id), -0.5) for token in [*first, *second]
    ]


def test_a_choice_that_a_stop_string_ends_is_given_up_once_and_its_late_tokens_are_dropped(
    cria_text: TextSide,
) -> None:
    answers = growing(cria_text, 1, "pass")
    arrived = tokens(cria_text, "The herd crossed the pass. And the river.")
    events = answers.take(arrived)
    assert events[1] == Text("The herd crossed the ")
    assert isinstance(events[-1], Finished)
    assert events[-1].stop == "pass"
    assert (answers.given_up(), answers.given_up()) == ([0], [])
