"""Vocabularies and texts that the tests of this room share."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

import pytest
from template_families import CONTROL
from text_samples import random_text

from camelid.text import Tokenizer, from_meta, from_tokenizer_json


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """10,000 generated texts, the same in every run."""
    rng = random.Random(20240723)
    return [random_text(rng) for _ in range(10_000)]


@pytest.fixture(scope="session")
def meta_folder() -> Path:
    """The folder of Meta's own package with the real tokenizer.model."""
    found = importlib.util.find_spec("llama_models")
    if found is None or found.origin is None:
        pytest.skip("the package llama-models is not installed")
    return Path(found.origin).parent / "llama3"


@pytest.fixture(scope="session")
def llama3(meta_folder: Path) -> Tokenizer:
    """Llama 3's real vocabulary."""
    return from_meta(meta_folder)


@pytest.fixture(scope="session")
def llama3_metadata(llama3: Tokenizer) -> dict[str, object]:
    """Llama 3's vocabulary as the metadata of a GGUF file."""
    from camelid.text.bytelevel import to_bytes
    from camelid.text.merges import cuts_of

    tokens = [llama3.token(index) or "" for index in range(llama3.vocab_size)]
    base = llama3.vocab_size - len(llama3.control)
    lefts, rights = cuts_of([to_bytes(token) for token in tokens[:base]])
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * base + [3] * len(llama3.control),
        "tokenizer.ggml.merges": [f"{tokens[a]} {tokens[b]}" for a, b in zip(lefts, rights, strict=True)],
        "tokenizer.ggml.bos_token_id": llama3.bos_id,
        "tokenizer.ggml.eos_token_id": llama3.control["<|eot_id|>"].id,
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level vocabulary with the control tokens of all families."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Core

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), ("Ġ", "Ġ"), ("h", "e"), ("<", "|"), ("|", ">"), ("s", "e"), ("u", "se")]
    vocabulary = {piece: index for index, piece in enumerate([*alphabet, *map("".join, merges)])}
    core = Core(models.BPE(vocabulary, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(spelling, normalized=False) for spelling in CONTROL])
    folder = tmp_path_factory.mktemp("families")
    core.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "model_max_length": 10**6}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


@pytest.fixture(scope="session")
def ours(folder: Path) -> Tokenizer:
    """That vocabulary, read by us."""
    return from_tokenizer_json(folder)
