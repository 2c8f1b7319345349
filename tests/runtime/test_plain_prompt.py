"""The prompt of a plain completion: as ids, filled in between two texts, and given back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from camelid.engine.request import Score, Token
from camelid.errors import InvalidRequest
from camelid.runtime.model import TextSide
from camelid.runtime.plain_prompt import echo, encode_plain
from camelid.text.infill import find_infill
from camelid.text.tokenizer import ControlToken, Tokenizer
from camelid.types import CompletionRequest, Echo, Generation, TokenScore

SCORED = Generation(top_logprobs=1)


@pytest.fixture
def filling(cria_text: TextSide) -> Tokenizer:
    """cria's vocabulary, if three of its tokens were those of a model that fills in."""
    tokenizer = cria_text.tokenizer
    spellings = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    tokens = {spelling: ControlToken(number, spelling) for number, spelling in enumerate(spellings, start=1)}
    return replace(tokenizer, control={**tokenizer.control, **tokens})


def test_a_model_that_fills_in_is_asked_for_what_stands_between(filling: Tokenizer, cria_text: TextSide) -> None:
    ask = CompletionRequest("cria", "def f(<|fim_middle|>", suffix="): pass")
    before, after = filling.encode("def f(<|fim_middle|>"), filling.encode("): pass")
    assert encode_plain(filling, cria_text.template, ask) == [filling.bos_id, 1, *before, 2, *after, 3]
    assert 3 not in before  # a text cannot ask in the middle of itself


def test_a_model_that_does_not_fill_in_refuses_a_suffix(cria_text: TextSide, filling: Tokenizer) -> None:
    assert find_infill(cria_text.tokenizer) is None
    with pytest.raises(InvalidRequest, match="cria was not trained to fill in") as caught:
        encode_plain(cria_text.tokenizer, cria_text.template, CompletionRequest("cria", "a", suffix="b"))
    assert caught.value.field == "suffix"
    with pytest.raises(InvalidRequest, match="suffix needs a prompt that is text"):
        encode_plain(filling, cria_text.template, CompletionRequest("cria", (1, 2), suffix="b"))


def test_a_text_comes_back_with_the_scores_of_its_own_tokens(cria_text: TextSide) -> None:
    tokenizer = cria_text.tokenizer
    ask = CompletionRequest("cria", "1, 2", SCORED, echo=True)
    ids = encode_plain(tokenizer, cria_text.template, ask)
    assert ids[0] == tokenizer.bos_id
    scores = tuple(Score(-float(number), ((ids[1], -0.5),)) for number in range(1, len(ids)))
    back = echo(tokenizer, ask, ids, Token("r", 0, 0, 5, prompt_scores=scores))
    likeliest = TokenScore(ids[1], tokenizer.token_bytes(ids[1]), -0.5)
    assert back == Echo(
        "1, 2",
        None,
        tuple(
            TokenScore(token, tokenizer.token_bytes(token), -float(number), (likeliest,))
            for number, token in enumerate(ids)
            if number
        ),
    )
    assert b"".join(score.piece for score in back.scores).decode() == back.text


def test_ids_come_back_as_text_and_the_first_one_has_no_score(cria_text: TextSide) -> None:
    tokenizer = cria_text.tokenizer
    ids = [tokenizer.bos_id or 0, *tokenizer.encode("né")]
    ask = CompletionRequest("cria", tuple(ids), SCORED, echo=True)
    scores = tuple(Score(-1.0) for _ in ids[1:])
    back = echo(tokenizer, ask, ids, Token("r", 0, 0, 5, prompt_scores=scores))
    assert (back.text, back.first, len(back.scores)) == ("<|begin_of_text|>né", b"<|begin_of_text|>", len(ids) - 1)
    plain = echo(tokenizer, replace(ask, generation=Generation()), ids, Token("r", 0, 0, 5))
    assert plain == Echo("<|begin_of_text|>né")
