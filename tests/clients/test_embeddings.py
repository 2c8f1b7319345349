"""Embeddings through the official clients, from a random Llama of Transformers that is written to GGUF here."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import ollama
import openai
import pytest
import torch
from numpy.typing import NDArray
from zoo import llama_tokenizer, meaning

import camelid
from camelid.store.store import Store

TEXTS = ["Llamas hum.", "Llamas hum to each other.", "x"]


@pytest.fixture
def url(zoo_url: str) -> str:
    return zoo_url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def ollamas(url: str) -> Iterator[ollama.Client]:
    client = ollama.Client(host=url)
    yield client
    client._client.close()


@pytest.fixture(scope="module")
def ids() -> list[list[int]]:
    """The ids of TEXTS, with the token that begins a text."""
    return [llama_tokenizer.encode_whole(text) for text in TEXTS]


@pytest.fixture(scope="module")
def expected(ids: list[list[int]]) -> NDArray[np.float32]:
    with torch.no_grad():
        rows = [meaning().model(torch.tensor([one])).last_hidden_state[0].mean(0) for one in ids]
    return np.stack([torch.nn.functional.normalize(row, dim=0).numpy() for row in rows])


def vectors(reply: Any) -> NDArray[np.float32]:
    return np.array([item.embedding for item in reply.data], np.float32)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_openais_client_gets_the_vectors_of_transformers(
    client: openai.OpenAI, expected: NDArray[np.float32], ids: list[list[int]], encoding: Any
) -> None:
    more = {} if encoding is None else {"encoding_format": encoding}
    reply = client.embeddings.create(model="meaning", input=TEXTS, **more)
    found = [item.embedding for item in reply.data]
    if encoding == "base64":
        found = [np.frombuffer(base64.b64decode(text), "<f4") for text in found]  # type: ignore[arg-type]
    np.testing.assert_allclose(np.array(found, np.float32), expected, atol=5e-6)
    num_tokens = sum(map(len, ids))
    assert (reply.object, reply.model, [item.index for item in reply.data]) == ("list", "meaning", [0, 1, 2])
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (num_tokens, num_tokens)


def test_a_text_its_ids_and_a_list_of_either_are_the_same(
    client: openai.OpenAI, expected: NDArray[np.float32], ids: list[list[int]]
) -> None:
    for given, rows in ((TEXTS[0], 1), (ids[0], 1), (ids, 3), ([TEXTS[0]], 1)):
        found = vectors(client.embeddings.create(model="meaning", input=given, encoding_format="float"))  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected[:rows], atol=5e-6)


def test_fewer_dimensions_are_the_first_ones_at_length_1(
    client: openai.OpenAI, ollamas: ollama.Client, expected: NDArray[np.float32]
) -> None:
    wanted = expected[:, :10] / np.linalg.norm(expected[:, :10], axis=1, keepdims=True)
    found = vectors(client.embeddings.create(model="meaning", input=TEXTS, dimensions=10))
    np.testing.assert_allclose(found, wanted, atol=5e-6)
    np.testing.assert_allclose(ollamas.embed("meaning", TEXTS, dimensions=10).embeddings, wanted, atol=5e-6)


def test_many_texts_come_back_in_their_order(client: openai.OpenAI) -> None:
    texts = [f"text {number}" for number in range(200)]
    together = vectors(client.embeddings.create(model="meaning", input=texts))
    for number in (0, 63, 64, 199):
        alone = vectors(client.embeddings.create(model="meaning", input=texts[number]))[0]
        np.testing.assert_array_equal(alone, together[number])


def test_ollamas_client_gets_them_with_statistics(
    ollamas: ollama.Client, expected: NDArray[np.float32], ids: list[list[int]]
) -> None:
    reply = ollamas.embed("meaning", TEXTS)
    np.testing.assert_allclose(reply.embeddings, expected, atol=5e-6)
    assert (reply.model, reply.prompt_eval_count) == ("meaning", sum(map(len, ids)))
    assert reply.total_duration >= reply.load_duration > 0  # type: ignore[operator]
    np.testing.assert_allclose(ollamas.embed("meaning", TEXTS[0]).embeddings, expected[:1], atol=5e-6)
    np.testing.assert_allclose(ollamas.embeddings("meaning", TEXTS[1]).embedding, expected[1], atol=5e-6)


def test_nothing_to_embed_only_loads_the_model(ollamas: ollama.Client) -> None:
    assert ollamas.embed("meaning", []).embeddings == []
    assert ollamas.embed("meaning", "").embeddings == []
    assert ollamas.embeddings("meaning", "").embedding == []


def test_what_is_too_long_is_cut_for_ollama_unless_that_is_not_wanted(ollamas: ollama.Client) -> None:
    cut = ollamas.embed("meaning", "word " * 300)
    assert cut.prompt_eval_count == 128
    with pytest.raises(ollama.ResponseError, match="the input length exceeds the context length") as caught:
        ollamas.embed("meaning", "word " * 300, truncate=False)
    assert caught.value.status_code == 400


REFUSALS: dict[str, tuple[str, Callable[[openai.OpenAI], object]]] = {
    "too long": ("and the context holds 128", lambda c: c.embeddings.create(model="meaning", input="word " * 300)),
    "no text": ("input must not be empty", lambda c: c.embeddings.create(model="meaning", input=[])),
    "an empty text": (r"input\[1\] must not be empty", lambda c: c.embeddings.create(model="meaning", input=["a", ""])),
    "an unknown id": ("token ids from 0 to 511", lambda c: c.embeddings.create(model="meaning", input=[600])),
    "too many dimensions": (
        "dimensions must be 1–64",
        lambda c: c.embeddings.create(model="meaning", input="a", dimensions=65),
    ),
    "too many texts": ("inputs must be 1–2048", lambda c: c.embeddings.create(model="meaning", input=["a"] * 2049)),
    "a mixture": ("not a mixture", lambda c: c.embeddings.create(model="meaning", input=["a", 1])),  # type: ignore[list-item]
    "another encoding": (
        "encoding_format",
        lambda c: c.embeddings.create(model="meaning", input="a", encoding_format="hex"),  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_with_its_field(client: openai.OpenAI, case: str) -> None:
    text, ask = REFUSALS[case]
    with pytest.raises(openai.BadRequestError, match=text):
        ask(client)


def test_the_library_gives_the_same(zoo: Store, expected: NDArray[np.float32]) -> None:
    with camelid.load(str(zoo.folder / "meaning.gguf"), threads=1, cache_type="f32") as model:
        np.testing.assert_allclose(model.embed(TEXTS), expected, atol=5e-6)
        assert np.shape(model.embed("one", dimensions=7)) == (1, 7)
