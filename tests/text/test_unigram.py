"""XLM-RoBERTa's tokenizer from GGUF metadata gives the ids that Transformers' own gives."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.errors import BadVocabulary
from camelid.text import from_gguf
from camelid.text.tokenizer import Tokenizer

LETTERS = "abcdefghilmnopqrstuvwxyz,.!<>/é中国"
WORDS = {"▁llama": -3.0, "llama": -4.0, "▁hum": -3.5, "ming": -4.0, "s": -4.5, "▁the": -2.5, "▁un": -3.0, "▁": -2.0}
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *WORDS.items()]
PIECES += [(letter, -8.0 - index / 10) for index, letter in enumerate(LETTERS) if letter != "s"]
PIECES += [("<mask>", 0.0)]
UNUSED = ["[PAD45]", "[PAD46]"]
TEXTS = ["", "llamas humming, the llama!", "  un the\tllamas \n hum  ", "中国 é the Q", "a<b>c", "thellamahum " * 5]


def metadata(**changes: Any) -> dict[str, Any]:
    tokens = [piece for piece, _ in PIECES] + UNUSED
    special = {"<s>": 3, "<pad>": 3, "</s>": 3, "<unk>": 2, "<mask>": 3}
    values = {
        "model": "t5",
        "tokens": tokens,
        "scores": [score for _, score in PIECES] + [-10000.0] * len(UNUSED),
        "token_type": [special.get(token, 5 if token in UNUSED else 1) for token in tokens],
        "bos_token_id": 0,
        "eos_token_id": 2,
        "unknown_token_id": 3,
        "add_space_prefix": True,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


@cache
def ours() -> Tokenizer:
    return from_gguf(metadata())


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(text: str) -> None:
    from transformers import XLMRobertaTokenizer

    assert ours().encode_whole(text) == XLMRobertaTokenizer(vocab=PIECES)(text)["input_ids"]


@given(st.text(alphabet=st.sampled_from("lamhus <>/é中Q \t[]PAD45"), max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_text_becomes_a_control_token_or_an_unused_one(text: str) -> None:
    ids = ours().encode_whole(text)
    assert (ids[0], ids[-1]) == (0, 2)
    assert not {0, 1, 2, *range(len(PIECES) - 1, len(PIECES) + 2)} & set(ids[1:-1])


def test_tokens_are_found_by_their_spelling_where_no_key_names_them() -> None:
    found = from_gguf(metadata(bos_token_id=None, eos_token_id=None, unknown_token_id=None))
    assert (found.ends.bos_id, found.ends.eos_id, found.unknown_id) == (0, 2, 3)


@pytest.mark.parametrize(
    "changes",
    [{"tokens": None}, {"scores": None}, {"scores": [0.0]}, {"token_type": [1]}, {"bos_token_id": 10**6},
     {"precompiled_charsmap": [1, 2, 3]}],
)  # fmt: skip
def test_a_vocabulary_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadVocabulary):
        from_gguf(metadata(**changes))
