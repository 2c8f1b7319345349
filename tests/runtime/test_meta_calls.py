"""Text and chat completion by the names, defaults and results of Meta's own code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

import camelid
from camelid.errors import InvalidRequest

PROMPTS = ["1, 2, 3", "The quick brown fox", "1, 2, 3"]


@pytest.fixture(scope="module")
def model() -> Iterator[camelid.Model]:
    with camelid.load("cria", threads=1, device="cpu") as loaded:
        yield loaded


def alone(model: camelid.Model, prompt: str, seed: int) -> str:
    return model.complete(
        "<|begin_of_text|>" + prompt, temperature=0.6, top_p=0.9, top_k=0, max_tokens=7, seed=seed
    ).text


def test_each_text_of_a_batch_goes_on_as_it_would_alone(model: camelid.Model) -> None:
    results = model.text_completion(PROMPTS, max_gen_len=7, seed=5)
    assert results == [{"generation": alone(model, prompt, 5 + i)} for i, prompt in enumerate(PROMPTS)]
    assert model.text_completion([]) == []


def test_tokens_and_their_logarithms_come_where_they_are_asked_for(model: camelid.Model) -> None:
    [plain] = model.text_completion(PROMPTS[:1], 0.0, max_gen_len=6, logprobs=True)
    assert list(plain) == ["generation", "tokens", "logprobs"]
    assert "".join(plain["tokens"]) == plain["generation"]
    assert len(plain["tokens"]) == len(plain["logprobs"])
    [echoed] = model.text_completion(PROMPTS[:1], 0.0, max_gen_len=6, logprobs=True, echo=True)
    num_prompt = len(model.tokenize(PROMPTS[0])) + 1
    assert echoed["tokens"][0] == "<|begin_of_text|>"
    assert echoed["logprobs"][0] == 0.0
    assert echoed["tokens"][num_prompt:] == plain["tokens"]
    assert echoed["logprobs"][num_prompt:] == pytest.approx(plain["logprobs"])
    assert all(math.isfinite(value) and value <= 0 for value in echoed["logprobs"])
    assert "".join(echoed["tokens"]) == echoed["generation"] == "<|begin_of_text|>1, 2, 3" + plain["generation"]


def test_a_control_token_that_a_text_spells_out_is_text(model: camelid.Model) -> None:
    [result] = model.text_completion(["<|eot_id|>"], 0.0, max_gen_len=1, logprobs=True, echo=True)
    assert len(result["tokens"]) > 3


def test_dialogs_are_answered_with_messages_of_the_assistant(model: camelid.Model) -> None:
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    greeting = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
    results = model.chat_completion([question, greeting], 0.0, max_gen_len=12, logprobs=True)
    for dialog, result in zip((question, greeting), results, strict=True):
        text = model.chat(dialog, temperature=0, max_tokens=12).text
        assert result["generation"] == {"role": "assistant", "content": text}
        assert "".join(result["tokens"]) == text
        assert len(result["tokens"]) == len(result["logprobs"])


def test_a_batch_may_be_longer_than_the_queue() -> None:
    with camelid.load("cria", threads=1, max_sequences=2, max_waiting=1, context_length=64) as model:
        assert len(model.text_completion(["a"] * 12, max_gen_len=1)) == 12


def test_what_is_wrong_is_said(model: camelid.Model) -> None:
    with pytest.raises(InvalidRequest, match="prompts must be a list of texts"):
        model.text_completion("one")
    with pytest.raises(InvalidRequest, match="max_gen_len must be at least 1, got 0"):
        model.text_completion(["one"], max_gen_len=0)
    with pytest.raises(InvalidRequest, match="top_p"):
        model.chat_completion([[{"role": "user", "content": "x"}]], top_p=2.0)
