"""BERT's tokenizer from GGUF metadata gives the ids that Transformers' own gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.errors import BadVocabulary
from camelid.text import from_gguf
from camelid.text.tokenizer import Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["llama", "llamas", "hum", "un", "over", "weight", "the", "ue", "ber", "¥", "中", "国", "é", "😀"]
PIECES = ["##ming", "##able", "##over", "##weight", "##ee", "##国", "##é"]
MARKS = [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~。", "##!", "##]"]
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS, *PIECES, *MARKS]
CASED = [*VOCABULARY, "Llama", "L", "##L", "É"]

TEXTS = [
    "",
    "Llamas hum.",
    "The llamas, humming: overweight un-able [SEP] [MASK] tokens!",
    "  blanks\tand\nlines \u00a0 \u200b of all kinds\x00\x07 ",
    "中国 llama国 über Éé naïve café",
    "x" * 100 + " " + "y" * 101,
    "😀 ¥5 don't [unused0] [CLS] ##s",
    "ﬁ ① Ⅳ İstanbul ß",
]


def metadata(vocabulary: list[str], *, is_old: bool = False, **changes: Any) -> dict[str, Any]:
    """Return what llama.cpp's converter writes; older ones call nothing but words by their type."""
    kinds = [3 if token in SPECIAL and token != "[unused0]" and not is_old else 1 for token in vocabulary]

    def phantom(token: str, kind: int) -> str:
        if kind == 3 or (is_old and token.startswith("[") and token.endswith("]")):
            return token
        return token[2:] if token.startswith("##") else f"▁{token}"

    values = {
        "model": "bert",
        "tokens": [phantom(token, kind) for token, kind in zip(vocabulary, kinds, strict=True)],
        "token_type": kinds,
        "cls_token_id": 3,
        "seperator_token_id": 4,
        "unknown_token_id": 2,
        "padding_token_id": 0,
        "mask_token_id": 5,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def theirs(path: Path, vocabulary: list[str], *, is_lower: bool) -> Any:
    from transformers import BertTokenizerFast

    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return BertTokenizerFast.from_pretrained(path, do_lower_case=is_lower)


@cache
def plain_tokenizer() -> Tokenizer:
    return from_gguf(metadata(VOCABULARY))


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("vocabulary", [VOCABULARY, CASED], ids=["uncased", "cased"])
def test_ids_are_those_of_transformers(tmp_path: Path, vocabulary: list[str], is_old: bool) -> None:
    ours = from_gguf(metadata(vocabulary, is_old=is_old))
    reference = theirs(tmp_path, vocabulary, is_lower=vocabulary is VOCABULARY)
    for text in TEXTS:
        harmless = text.replace("[", "(").replace("]", ")")  # theirs makes control tokens of what a user spells out
        assert ours.encode_whole(harmless) == reference(harmless)["input_ids"]


@given(st.text(alphabet=st.sampled_from("aelmuhr é中#.! \t–İ😀"), max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_text_begins_and_ends_as_bert_wants_and_has_no_control_token_inside(text: str) -> None:
    ids = plain_tokenizer().encode_whole(text)
    assert (ids[0], ids[-1]) == (3, 4)
    assert not {0, 3, 4, 5} & set(ids[1:-1])


def test_a_user_cannot_write_a_control_token() -> None:
    ids = plain_tokenizer().encode_whole("a [SEP] b [CLS] [MASK] [PAD]")
    assert [ids.count(control) for control in (0, 3, 4, 5)] == [0, 1, 1, 0]


def test_tokens_are_found_by_their_spelling_where_no_key_names_them() -> None:
    keys = ("cls_token_id", "seperator_token_id", "unknown_token_id", "padding_token_id", "mask_token_id")
    ours = from_gguf(metadata(VOCABULARY, **dict.fromkeys(keys)))
    assert (ours.ends.bos_id, ours.ends.eos_id, ours.unknown_id) == (3, 4, 2)
    named = from_gguf(metadata(VOCABULARY, cls_token_id=None, seperator_token_id=None, bos_token_id=3, eos_token_id=4))
    assert (named.ends.bos_id, named.ends.eos_id) == (3, 4)


@pytest.mark.parametrize(
    "changes", [{"tokens": None}, {"tokens": "abc"}, {"tokens": [1, 2]}, {"cls_token_id": 10**6}, {"tokens": ["a"]}]
)
def test_a_vocabulary_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    if changes.get("tokens") == ["a"]:
        changes = {**changes, "cls_token_id": None}
    with pytest.raises(BadVocabulary):
        from_gguf(metadata(VOCABULARY, **changes))
