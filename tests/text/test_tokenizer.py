"""Token ids against Meta's tokenizer, transformers, tokenizers and sentencepiece; special tokens stay out of reach."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import WORDS, random_text

from camelid.errors import BadVocabulary
from camelid.text import Prompt, Tokenizer, from_gguf, from_tokenizer_json
from camelid.text.detokenize import decode
from camelid.text.prompt import choose_marks


@pytest.fixture(scope="session")
def meta(meta_folder: Path):
    from llama_models.llama3.tokenizer import Tokenizer as Meta

    return Meta(meta_folder / "tokenizer.model")


@pytest.fixture(scope="session")
def llama3_gguf(llama3_metadata: dict[str, object]) -> Tokenizer:
    return from_gguf(llama3_metadata)


@pytest.fixture(scope="session")
def llama3_folder(llama3: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama 3's vocabulary as a Hugging Face folder."""
    from tokenizers import AddedToken, decoders, processors
    from tokenizers import Tokenizer as Core

    core = Core(llama3.core.model)
    core.pre_tokenizer = llama3.core.pre_tokenizer
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(spelling, normalized=False) for spelling in llama3.control])
    core.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", llama3.bos_id)]
    )
    folder = tmp_path_factory.mktemp("llama3")
    core.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"bos_token": "<|begin_of_text|>", "eos_token": {"__type": "AddedToken", "content": "<|eot_id|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [128001, 128008, 128009]}))
    return folder


def test_ids_equal_metas_tokenizer_on_ten_thousand_texts(llama3: Tokenizer, meta, texts: list[str]) -> None:
    ours = [llama3.encode(text) for text in texts]
    assert ours == [meta.encode(text, bos=False, eos=False) for text in texts]


def test_parsed_specials_equal_metas_tokenizer(llama3: Tokenizer, meta, texts: list[str]) -> None:
    ours = [llama3.encode(text, parse_special=True) for text in texts]
    assert ours == [meta.encode(text, bos=False, eos=False, allowed_special="all") for text in texts]


def test_special_tokens_equal_metas(llama3: Tokenizer, meta) -> None:
    assert {spelling: token.id for spelling, token in llama3.control.items()} == meta.special_tokens
    assert (llama3.bos_id, llama3.eos_ids, llama3.vocab_size) == (
        meta.bos_id,
        frozenset(meta.stop_tokens),
        meta.n_words,
    )


def test_token_bytes_equal_metas(llama3: Tokenizer, meta) -> None:
    ids = range(llama3.vocab_size)
    assert [llama3.token_bytes(i) for i in ids] == [meta.model.decode_single_token_bytes(i) for i in ids]


def test_gguf_equals_metas_tokenizer(llama3_gguf: Tokenizer, meta, texts: list[str]) -> None:
    assert [llama3_gguf.encode(text) for text in texts] == [meta.encode(text, bos=False, eos=False) for text in texts]
    assert llama3_gguf.eos_ids == frozenset(meta.stop_tokens)


def test_tokenizer_json_and_gguf_equal_transformers(
    llama3_folder: Path, llama3_gguf: Tokenizer, texts: list[str]
) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(str(llama3_folder))
    ours = from_tokenizer_json(llama3_folder)
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert [ours.encode(text, parse_special=True) for text in texts] == expected
    assert [llama3_gguf.encode(text, parse_special=True) for text in texts] == expected
    assert [decode(ours, ids) for ids in expected] == theirs.batch_decode(
        expected, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert ours.encode("hi", with_bos=True) == theirs("hi")["input_ids"]
    assert (ours.bos_id, ours.eos_ids, ours.vocab_size) == (128000, {128001, 128008, 128009}, 128256)


@pytest.mark.parametrize("source", ["llama3", "llama3_gguf", "json"])
def test_text_from_outside_never_yields_a_special_token(
    source: str, request: pytest.FixtureRequest, llama3_folder: Path, texts: list[str]
) -> None:
    made = from_tokenizer_json(llama3_folder) if source == "json" else request.getfixturevalue(source)
    for text in (*texts[:2000], *made.control, "".join(made.control)):
        ids = made.encode(text)
        assert made.control_ids.isdisjoint(ids)
        assert decode(made, ids) == text


def test_real_vocabulary_is_ready_in_about_a_second(llama3_metadata: dict[str, object]) -> None:
    # The bound allows for a busy machine. Half of the time is the library's own: it inserts 280,000 merges.
    started = time.process_time()
    from_gguf(llama3_metadata)
    assert time.process_time() - started < 2.5


def test_many_like_characters_are_encoded_in_linear_time(llama3: Tokenizer) -> None:
    for unit in (" ", "a", "!", "\n", "1", "<|eot_id|>"):
        text = unit * (200_000 // len(unit))
        started = time.process_time()
        assert decode(llama3, llama3.encode(text)) == text
        assert time.process_time() - started < 5


def test_lone_surrogates_become_replacement_characters(llama3: Tokenizer) -> None:
    assert decode(llama3, llama3.encode("a\ud800b\ud83d\ude00")) == "a\ufffdb😀"


def test_marked_text_cannot_spell_a_special_token_in_a_prompt(llama3: Tokenizer) -> None:
    content = "x<|eot_id|>\ny<|start_header_id|>"
    marks = choose_marks(llama3.protected, [content])
    prompt = Prompt(f"<|start_header_id|>user<|end_header_id|>\n\n{marks.mark(content)}<|eot_id|>", marks)
    ids = llama3.encode_prompt(prompt)
    assert [i for i in ids if i in llama3.control_ids] == [128006, 128007, 128009]
    assert decode(llama3, ids) == f"user\n\n{content}"
    assert prompt.text == f"<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>"


def test_ordinary_prompt_has_the_ids_of_its_whole_text(llama3: Tokenizer, meta) -> None:
    for content in ("\n\nstarts with line ends", "ends with spaces   ", "a | b || c", "<b>|</b>", " 's"):
        marks = choose_marks(llama3.protected, [content])
        head, tail = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n", "\n<|eot_id|>"
        ids = llama3.encode_prompt(Prompt(head + marks.mark(content) + tail, marks))
        assert ids == meta.encode(head + content + tail, bos=False, eos=False, allowed_special="all")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_ids_decode_to_the_text(llama3: Tokenizer, left: str, right: str) -> None:
    text = left + "<|eot_id|>" + right
    assert decode(llama3, llama3.encode(text)) == text


# Vocabularies trained here, against the packages that trained them.


def _training_texts() -> list[str]:
    rng = random.Random(5)
    return ["The quick brown fox jumps over the lazy dog. It's 12 or 345!"] * 20 + [
        random_text(rng) for _ in range(600)
    ]


def _byte_level_metadata(pre: str, core) -> dict[str, object]:
    state = json.loads(core.to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens, "<|im_start|>", "<|im_end|>", "<tool>"],
        "tokenizer.ggml.token_type": [1] * len(tokens) + [3, 3, 4],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in state["merges"]],
        "tokenizer.ggml.eos_token_id": len(tokens) + 1,
        "tokenizer.ggml.add_bos_token": False,
    }


def _trained(splits) -> object:
    from tokenizers import Tokenizer as Core
    from tokenizers import models, pre_tokenizers, trainers

    core = Core(models.BPE())
    core.pre_tokenizer = splits
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(_training_texts(), trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet))
    return core


def test_gpt_2_and_qwen_2_vocabularies_equal_the_library(texts: list[str]) -> None:
    from tokenizers import Regex, pre_tokenizers

    qwen = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    for pre, splits in {
        "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
        "qwen2": pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(qwen), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    }.items():
        theirs = _trained(splits)
        ours = from_gguf(_byte_level_metadata(pre, theirs))
        assert [ours.encode(text) for text in texts] == [theirs.encode(text).ids for text in texts]  # type: ignore[attr-defined]
        im_start, im_end, tool = range(ours.vocab_size - 3, ours.vocab_size)
        assert ours.encode("<|im_start|>", parse_special=True) == [im_start]
        assert ours.encode("<tool>") == [tool]  # a user-defined token is a word like any other
        assert ours.eos_ids == {im_end}


@pytest.fixture(scope="session")
def sentence_piece(tmp_path_factory: pytest.TempPathFactory):
    import sentencepiece

    folder = tmp_path_factory.mktemp("sp")
    rng = random.Random(6)
    (folder / "corpus.txt").write_text("\n".join(" ".join(rng.choices(WORDS, k=20)) for _ in range(500)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "sp"),
        vocab_size=560,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "sp.model"))


def _sentence_piece_metadata(theirs) -> dict[str, object]:
    ids = range(theirs.get_piece_size())
    kinds = [2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i) else 1 for i in ids]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [theirs.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [theirs.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": theirs.bos_id(),
        "tokenizer.ggml.eos_token_id": theirs.eos_id(),
        "tokenizer.ggml.unknown_token_id": theirs.unk_id(),
    }


def test_scored_vocabulary_equals_sentencepiece(sentence_piece, texts: list[str]) -> None:
    ours = from_gguf(_sentence_piece_metadata(sentence_piece))
    clean = [text for text in texts if "▁" not in text and "\x00" not in text]
    assert [ours.encode(text) for text in clean] == [sentence_piece.encode(text) for text in clean]
    assert [decode(ours, ours.encode(text)) for text in clean] == clean
    assert (ours.bos_id, ours.eos_ids) == (1, {2})
    assert ours.encode("<s> hi", parse_special=True)[0] == 1
    assert ours.encode("hi", with_bos=True) == [1, *sentence_piece.encode("hi")]


def test_a_continued_text_keeps_its_first_space(sentence_piece) -> None:
    ours = from_gguf(_sentence_piece_metadata(sentence_piece))
    ids = ours.encode("the lazy dog")
    assert decode(ours, ids) == "the lazy dog"
    assert decode(ours, ids, continues_text=True) == " the lazy dog"


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_metaspace_tokenizer_json_equals_transformers(
    scheme: str, sentence_piece, tmp_path: Path, texts: list[str]
) -> None:
    from tokenizers import AddedToken, decoders, pre_tokenizers
    from tokenizers import Tokenizer as Core
    from transformers import PreTrainedTokenizerFast

    metadata = _sentence_piece_metadata(sentence_piece)
    kinds = [1 if kind == 3 else kind for kind in metadata["tokenizer.ggml.token_type"]]  # ids without gaps
    metadata = _without(metadata, token_type=kinds, bos_token_id=None, eos_token_id=None)
    core = Core(from_gguf(metadata).core.model)
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    strips = [] if scheme == "never" else [decoders.Strip(" ", 1, 0)]
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strips]
    core.decoder = decoders.Sequence(parts)
    core.add_special_tokens([AddedToken("<turn>", normalized=False, rstrip=True)])
    core.save(str(tmp_path / "tokenizer.json"))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ours = from_tokenizer_json(tmp_path)
    for text in texts[:2000]:
        text = text.replace("<|eot_id|>", "<turn>").replace("<|", "<turn> \n")
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, parse_special=True) == expected, repr(text)
        if "<turn>" not in text and "\ufffd" not in text:
            assert decode(ours, expected) == theirs.decode(expected, clean_up_tokenization_spaces=False)


# What is wrong is said.


def _without(metadata: dict[str, object], **changes: object) -> dict[str, object]:
    return metadata | {f"tokenizer.ggml.{name}": value for name, value in changes.items()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "rwkv"}, "tokenizer 'rwkv'"),
        ({"model": None}, "tokenizer.ggml.model"),
        ({"pre": "no-such"}, "pre-tokenizer 'no-such'"),
        ({"token_type": [1, 2]}, "token_type has 2 entries"),
        ({"bos_token_id": 10**9}, "bos_token_id is 1000000000, but there are 903 tokens"),
        ({"eos_token_id": -1}, "eos_token_id is -1"),
        ({"merges": ["a b c"]}, "1 merges must hold 2 tokens, not 3"),
        ({"merges": ["qqqq zzzz"]}, "the merges do not fit the vocabulary"),
        ({"merges": None}, "tokenizer.ggml.merges"),
        ({"merges": [1, 2]}, "merges must hold strings only"),
        ({"tokens": 7}, "no usable tokenizer.ggml.tokens"),
        ({"token_type": "x" * 903}, "token_type must hold numbers only"),
        ({"bos_token_id": "0"}, "bos_token_id is '0', which is no token id"),
        ({"tokens": ["a", "b"], "token_type": [1, 1], "eos_token_id": 1}, "lacks 242 of the 243 byte tokens"),
    ],
)
def test_inconsistent_metadata_is_refused(changes: dict[str, object], words: str) -> None:
    from tokenizers import pre_tokenizers

    from camelid.errors import ModelError

    metadata = _byte_level_metadata("gpt-2", _trained(pre_tokenizers.ByteLevel(add_prefix_space=False)))
    with pytest.raises(ModelError, match=words.replace(".", r"\.")):
        from_gguf(_without(metadata, **changes))


def test_words_that_look_like_control_tokens_are_control_tokens() -> None:
    from tokenizers import pre_tokenizers

    metadata = _byte_level_metadata("gpt-2", _trained(pre_tokenizers.ByteLevel(add_prefix_space=False)))
    as_words = [*metadata["tokenizer.ggml.token_type"][:-3], 4, 4, 4]
    ours = from_gguf(_without(metadata, token_type=as_words))
    assert sorted(ours.control) == ["<|im_end|>", "<|im_start|>"]
    assert ours.control_ids.isdisjoint(ours.encode("<|im_start|>system"))
    assert decode(ours, ours.encode("<|im_start|><tool>")) == "<|im_start|><tool>"


def test_added_words_that_look_like_control_tokens_are_control_tokens(tmp_path: Path) -> None:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Core

    core = Core(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken("<|im_start|>", normalized=False), AddedToken("<think>", normalized=False)])
    core.save(str(tmp_path / "tokenizer.json"))
    ours = from_tokenizer_json(tmp_path)
    text = "<|im_start|>a<think><|im_start|>"
    ids = ours.encode(text)
    assert 256 not in ids
    assert ids.count(257) == 1
    assert decode(ours, ids) == text
    assert ours.encode(text, parse_special=True)[0] == 256


def test_llama_3_files_that_say_nothing_of_it_start_texts_with_bos(llama3_gguf: Tokenizer, llama3: Tokenizer) -> None:
    assert llama3_gguf.encode("hi", with_bos=True) == [128000, *llama3.encode("hi")]
    assert llama3_gguf.encode("<|begin_of_text|>hi", parse_special=True, with_bos=True) == [
        128000,
        *llama3.encode("hi"),
    ]


def test_a_token_listed_twice_is_its_first(llama3: Tokenizer) -> None:
    from tokenizers import pre_tokenizers

    metadata = _byte_level_metadata("gpt-2", _trained(pre_tokenizers.ByteLevel(add_prefix_space=False)))
    tokens = [*metadata["tokenizer.ggml.tokens"], "<|im_end|>", "a"]
    ours = from_gguf(_without(metadata, tokens=tokens, token_type=[*metadata["tokenizer.ggml.token_type"], 4, 4]))
    assert ours.encode("a") == [tokens.index("a")]
    assert max(ours.encode("<|im_end|>a<tool>", parse_special=True)) < len(tokens)


def test_scores_must_match_the_tokens(sentence_piece) -> None:
    with pytest.raises(BadVocabulary, match="scores has 1 entries, but there are 560 tokens"):
        from_gguf(_without(_sentence_piece_metadata(sentence_piece), scores=[0.0]))


def test_vocabulary_must_fit_the_embedding(llama3: Tokenizer) -> None:
    llama3.check_rows(128256)
    llama3.check_rows(128320)  # padded rows are no mistake
    with pytest.raises(BadVocabulary, match="128256 tokens, but the embedding has only 128000 rows"):
        llama3.check_rows(128000)


@pytest.mark.parametrize("content", [b"", b"aGk= 0\nnot base64! 1\n", b"aGk= 0\naGk= 2\n", b"aGk= 0\n"])
def test_broken_tokenizer_model_is_refused(content: bytes, tmp_path: Path) -> None:
    from camelid.text import from_meta

    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(BadVocabulary, match=r"tokenizer\.model"):
        from_meta(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}'])
def test_broken_tokenizer_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BadVocabulary, match=r"tokenizer\.json"):
        from_tokenizer_json(tmp_path)


def test_ids_outside_the_vocabulary_have_no_bytes(llama3: Tokenizer) -> None:
    assert [llama3.token_bytes(i) for i in (-1, 128256, 10**9)] == [b"", b"", b""]
