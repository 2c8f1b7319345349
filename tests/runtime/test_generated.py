"""The library's `generate`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import camelid
from camelid.errors import InvalidRequest
from camelid.types import FinishReason


@pytest.fixture(scope="module")
def model() -> Iterator[camelid.Model]:
    with camelid.load("cria", threads=1, device="cpu") as loaded:
        yield loaded


def test_texts_ids_and_conversations_go_on(model: camelid.Model) -> None:
    text = "<|begin_of_text|>1, 2, 3"
    ids = model.tokenize(text, parse_special=True)
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    found = model.generate([text, ids, question], do_sample=False, max_new_tokens=5)
    assert found.texts[0] == found.texts[1] == model.complete(text, temperature=0, max_tokens=5).text
    assert found.texts[2] == model.chat(question, temperature=0, max_tokens=5).text
    assert found.sequences[0][: len(ids)] == tuple(ids)
    assert model.detokenize(found.sequences[0][len(ids) :]) == found.texts[0]
    for one, alone in zip(found.sequences, (text, ids, question), strict=True):
        assert model.generate(alone, do_sample=False, max_new_tokens=5).sequences == (one,)


def test_the_end_token_is_part_of_a_sequence_and_a_stop_string_of_a_text(model: camelid.Model) -> None:
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    found = model.generate(question, do_sample=False)
    assert found.finish_reasons == (FinishReason.STOP,)
    assert found.sequences[0][-1] in model._model.model.text.tokenizer.eos_ids
    first = found.texts[0][0]
    assert model.generate(question, do_sample=False, stop_strings=first).texts == (first,)
    end = found.sequences[0][-2]
    assert model.generate(question, do_sample=False, eos_token_id=end).sequences[0][-1] == end


def test_draws_scores_and_counts(model: camelid.Model) -> None:
    asked = {"do_sample": True, "num_return_sequences": 2, "max_new_tokens": 4, "seed": 3, "output_scores": True}
    found = model.generate(["1, 2", "3, 4"], **asked)
    assert found == model.generate(["1, 2", "3, 4"], **asked)
    assert len(found.sequences) == len(found.texts) == 4
    assert found.scores is not None
    assert all(score.logprob <= 0 for answer in found.scores for score in answer)
    assert found.usage.completion_tokens == sum(map(len, found.sequences)) - 2 * found.usage.prompt_tokens


def test_lengths_may_count_the_prompt(model: camelid.Model) -> None:
    ids = model.tokenize("1, 2, 3, 4")
    [sequence] = model.generate(ids, max_length=len(ids) + 2, do_sample=False, min_new_tokens=2).sequences
    assert len(sequence) == len(ids) + 2
    with pytest.raises(InvalidRequest, match="max_length counts the prompt"):
        model.generate(ids, max_length=len(ids))
