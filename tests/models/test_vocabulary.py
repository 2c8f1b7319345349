"""Vocabularies read for writing: Meta's own numbering, and merges that make the tokens that tiktoken makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camelid.errors import ModelError, NotFound
from camelid.models.vocabulary import CONTROL, NORMAL, Vocabulary, made_up_vocabulary, read_vocabulary, spell

TEXT = (
    "The quick brown fox jumps over the lazy dog. Grüße aus Köln, ¿qué tal? 東京は日本の首都です。 "
    "def forward(self, x): return self.norm(x) + 3.14159e-10\n\n\tनमस्ते दुनिया 🦙🦙 สวัสดีชาวโลก internationalization"
)


@pytest.fixture(scope="module")
def meta_file() -> Path:
    import llama_models.llama3

    return Path(llama_models.llama3.__file__).parent / "tokenizer.model"


@pytest.fixture(scope="module")
def meta_vocabulary(meta_file: Path) -> Vocabulary:
    return read_vocabulary(meta_file)


def merge(vocabulary: Vocabulary, word: str) -> list[int]:
    """Return the ids that the vocabulary's merges make of one word."""
    from tokenizers.models import BPE

    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    merges = [tuple(pair.split(" ")) for pair in vocabulary.merges]
    return [token.id for token in BPE(ids, merges).tokenize(spell(word.encode()))]


def test_ids_equal_those_of_metas_tokenizer(meta_file: Path, meta_vocabulary: Vocabulary) -> None:
    from llama_models.llama3.tokenizer import Tokenizer

    meta = Tokenizer(meta_file)

    assert len(meta_vocabulary.tokens) == meta.n_words == 128_256
    special = {
        token: index for index, token in enumerate(meta_vocabulary.tokens) if meta_vocabulary.types[index] == CONTROL
    }
    assert special == meta.special_tokens
    assert (meta_vocabulary.bos_id, meta_vocabulary.eos_id) == (meta.bos_id, meta.eot_id)
    assert [meta_vocabulary.tokens[index] for index in range(0, 128_000, 997)] == [
        spell(meta.model.decode_single_token_bytes(index)) for index in range(0, 128_000, 997)
    ]


def test_merges_make_the_tokens_that_tiktoken_makes(meta_file: Path, meta_vocabulary: Vocabulary) -> None:
    import tiktoken
    from llama_models.tokenizer_utils import load_bpe_file

    # A pattern that takes any text as one piece, so that only the merging is compared.
    whole = tiktoken.Encoding("whole", pat_str=r"(?s:.+)", mergeable_ranks=load_bpe_file(meta_file), special_tokens={})

    assert len(meta_vocabulary.merges) == 280_147  # as many as in the published tokenizer.json
    assert merge(meta_vocabulary, TEXT) == whole.encode(TEXT)


def test_a_made_up_vocabulary_can_write_any_text() -> None:
    vocabulary = made_up_vocabulary(20_000)

    assert len(vocabulary.tokens) == len(set(vocabulary.tokens)) == len(vocabulary.types) == 20_000
    assert vocabulary.types.count(NORMAL) == 20_000 - 256
    assert vocabulary.tokens[vocabulary.bos_id] == "<|begin_of_text|>"
    assert vocabulary.tokens[vocabulary.eos_id] == "<|eot_id|>"
    ids = merge(vocabulary, TEXT)
    assert "".join(vocabulary.tokens[index] for index in ids) == spell(TEXT.encode())
    assert len(ids) < len(TEXT.encode())


def test_a_tokenizer_json_gives_the_vocabulary_it_was_made_from(tmp_path: Path) -> None:
    vocabulary = made_up_vocabulary(600)
    num_normal = 600 - 256
    content = {
        "model": {
            "vocab": {token: index for index, token in enumerate(vocabulary.tokens[:num_normal])},
            "merges": [pair.split(" ") for pair in vocabulary.merges],
        },
        "added_tokens": [
            {"id": num_normal + index, "content": token} for index, token in enumerate(vocabulary.tokens[num_normal:])
        ],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))

    assert read_vocabulary(tmp_path / "tokenizer.json") == vocabulary


@pytest.mark.parametrize("content", ["{}", '{"model": 3}', "not base64 1", "YQ== 0\nYg== 7", "YQ== x", "YQ=="])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "vocabulary").write_text(content)

    with pytest.raises(ModelError, match="is no vocabulary that can be used here"):
        read_vocabulary(tmp_path / "vocabulary")


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(NotFound):
        read_vocabulary(tmp_path / "nothing")
    with pytest.raises(ModelError, match="no vocabulary"):
        read_vocabulary(tmp_path / "binary")
