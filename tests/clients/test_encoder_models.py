"""BERT models of the store through the official clients: embeddings beside a model that chats, and ranking."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import ollama
import openai
import pytest
import torch
from zoo import all_minilm, bert_tokenizer, ranker, xlm, xlm_tokenizer

from camelid.store.store import Store

TEXTS = ["Llamas hum.", "Overweight llamas, humming: ü!", "x"]


@pytest.fixture
def url(zoo_url: str) -> str:
    return zoo_url


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    client = ollama.Client(host=url)
    yield client
    client._client.close()


def test_an_embedding_model_is_loaded_beside_the_one_that_chats(client: ollama.Client, url: str) -> None:
    theirs = all_minilm()
    reply = client.embed("all-minilm", TEXTS)
    with torch.no_grad():
        rows = [
            theirs(torch.tensor([bert_tokenizer.encode_whole(text)])).last_hidden_state[0].mean(0) for text in TEXTS
        ]
    expected = np.stack([torch.nn.functional.normalize(row, dim=0).numpy() for row in rows])
    np.testing.assert_allclose(reply.embeddings, expected, atol=5e-6)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as other:
        found = other.embeddings.create(model="all-minilm", input=TEXTS)
    np.testing.assert_allclose([item.embedding for item in found.data], expected, atol=5e-6)
    assert client.chat("cria", [{"role": "user", "content": "Hello!"}], options={"num_predict": 1}).done
    loaded = {model.model: model for model in client.ps().models}
    assert set(loaded) >= {"cria", "all-minilm:latest"}
    assert loaded["all-minilm:latest"].context_length == 128  # less than what was asked for the other one
    assert client.show("all-minilm").capabilities == ["embedding"]


def test_a_long_text_is_cut_and_keeps_its_end(client: ollama.Client) -> None:
    long = "hum " * 200
    ids = bert_tokenizer.encode_whole(long)
    assert client.embed("all-minilm", long).prompt_eval_count == 128
    (cut,) = client.embed("all-minilm", long).embeddings
    with torch.no_grad():
        row = all_minilm()(torch.tensor([[*ids[:127], ids[-1]]])).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(cut, torch.nn.functional.normalize(row, dim=0).numpy(), atol=5e-6)


@pytest.mark.parametrize(
    ("what", "ask"),
    [
        ("chat", lambda c: c.chat("all-minilm", [{"role": "user", "content": "Hello!"}])),
        ("generate", lambda c: c.generate("all-minilm", "Hello", raw=True)),
        ("embeddings", lambda c: c.embed("ranker", "Hello")),
    ],
)
def test_what_a_model_is_not_for_is_refused_by_name(client: ollama.Client, what: str, ask: Any) -> None:
    with pytest.raises(ollama.ResponseError, match=f"does not support {what}") as caught:
        ask(client)
    assert caught.value.status_code == 400


def rerank(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/rerank", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


DOCUMENTS = ["the llama hums", "overweight", {"text": "unable llamas hum over the weight"}, "中国"]


def test_documents_are_ranked_as_a_cross_encoder_of_transformers_ranks_them(url: str) -> None:
    theirs = ranker()
    answer = rerank(url, {"model": "ranker", "query": "do llamas hum?", "documents": DOCUMENTS})
    query, scores = bert_tokenizer.encode_whole("do llamas hum?"), []
    for document in DOCUMENTS:
        text = document if isinstance(document, str) else document["text"]
        second = bert_tokenizer.encode_whole(text)[1:]
        types = [0] * len(query) + [1] * len(second)
        with torch.no_grad():
            logit = theirs(torch.tensor([query + second]), token_type_ids=torch.tensor([types])).logits
        scores.append(torch.sigmoid(logit).item())
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    np.testing.assert_allclose([found[index] for index in range(4)], scores, atol=1e-5)
    assert list(found) == sorted(found, key=lambda index: -found[index])
    assert len(set(found.values())) == 4
    assert answer["usage"]["prompt_tokens"] > 4 * len(query)


def test_the_texts_of_a_pair_are_put_together_as_the_model_wants_it(url: str) -> None:
    """XLM-RoBERTa has two ends between the texts of a pair, and one segment."""
    theirs, pieces = xlm(), xlm_tokenizer
    answer = rerank(url, {"model": "xlm", "query": "the llama", "documents": ["llamas hum", "un"]})
    for result in answer["results"]:
        second = pieces.encode(["llamas hum", "un"][result["index"]])
        with torch.no_grad():
            logit = theirs(torch.tensor([[*pieces.encode_whole("the llama"), 2, *second, 2]])).logits
        assert result["relevance_score"] == pytest.approx(torch.sigmoid(logit).item(), abs=1e-5)


def test_the_best_few_come_back_with_their_texts_on_request(url: str) -> None:
    body = {"model": "ranker", "query": "q", "documents": DOCUMENTS}
    everything = rerank(url, body)["results"]
    best = rerank(url, {**body, "top_n": 2, "return_documents": True})["results"]
    assert [(one["index"], one["relevance_score"]) for one in best] == [
        (one["index"], one["relevance_score"]) for one in everything[:2]
    ]
    texts = [document if isinstance(document, str) else document["text"] for document in DOCUMENTS]
    assert [one["document"] for one in best] == [{"text": texts[one["index"]]} for one in best]


def test_a_document_that_is_too_long_is_cut(url: str) -> None:
    answer = rerank(url, {"model": "ranker", "query": "q", "documents": ["hum " * 500]})
    assert answer["usage"]["prompt_tokens"] == 128


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "cria"}, '"cria" does not support rerank'),
        ({"model": "all-minilm"}, "does not support rerank"),
        ({"documents": []}, "documents must be 1–2048"),
        ({"query": ""}, "query must not be empty"),
        ({"query": "hum " * 200}, "the query, with room for a document"),
        ({"top_n": 0}, "top_n must be at least 1"),
        ({"documents": [1]}, "documents"),
        ({"max_chunks": 3}, "unknown field 'max_chunks'"),
    ],
)
def test_what_cannot_be_ranked_is_refused(url: str, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        rerank(url, {"model": "ranker", "query": "q", "documents": ["a"], **changes})
    with caught.value as answer:
        error = json.loads(answer.read())["error"]
    assert (caught.value.code, text in error["message"]) == (400, True), error


def test_the_models_folder_is_all_that_callers_reach(url: str, zoo: Store) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        rerank(url, {"model": str(zoo.folder / "ranker.gguf"), "query": "q", "documents": ["a"]})
    with caught.value as answer:
        assert answer.code == 404
