"""Small random models of Transformers as GGUF files in a store, each with a tokenizer of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

from bert_checkpoints import bert, bert_checkpoint, xlm_roberta, xlm_roberta_checkpoint
from llama_checkpoints import gguf_checkpoint, transformers_model
from tests.text import test_unigram, test_wordpiece
from tiny_models import MemoryCheckpoint

from camelid.formats.gguf_writer import tensor_from_raw, write_gguf
from camelid.models.vocabulary import made_up_vocabulary
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import parse_name
from camelid.store.store import Store
from camelid.text import from_gguf

WORDS = made_up_vocabulary(512).metadata()
WORD_PIECES = test_wordpiece.metadata(test_wordpiece.VOCABULARY)
UNIGRAMS = test_unigram.metadata()
llama_tokenizer, bert_tokenizer, xlm_tokenizer = map(from_gguf, (WORDS, WORD_PIECES, UNIGRAMS))


def _size(words: dict[str, Any]) -> int:
    return len(words["tokenizer.ggml.tokens"])


@cache
def meaning() -> Any:
    """A Llama whose file asks for the mean of all hidden states."""
    return transformers_model({"vocab_size": 512, "max_position_embeddings": 128})


@cache
def all_minilm() -> Any:
    """A BERT."""
    return bert(vocab_size=_size(WORD_PIECES))


@cache
def ranker() -> Any:
    """A BERT with a classifier."""
    return bert(num_labels=1, vocab_size=_size(WORD_PIECES))


@cache
def xlm() -> Any:
    """An XLM-RoBERTa with a classifier."""
    return xlm_roberta(vocab_size=_size(UNIGRAMS))


def fill(store: Store) -> None:
    """Put all of them into a store, under their names."""
    llama = gguf_checkpoint(meaning())
    llama.metadata["llama.pooling_type"] = 1
    _put(store, "meaning", llama, WORDS)
    _put(store, "all-minilm", bert_checkpoint(all_minilm(), pooling_type=1), WORD_PIECES)
    _put(store, "ranker", bert_checkpoint(ranker(), pooling_type=4), WORD_PIECES)
    _put(store, "xlm", xlm_roberta_checkpoint(xlm()), UNIGRAMS)


def _put(store: Store, name: str, checkpoint: MemoryCheckpoint, words: dict[str, Any]) -> None:
    path = store.folder / f"{name}.gguf"
    tensors = [tensor_from_raw(n, t.shape, t.block_type, checkpoint.raw(n)) for n, t in checkpoint.tensors.items()]
    write_gguf(path, {**checkpoint.metadata, **words}, tensors)
    layer = Layer(f"{OLLAMA_LAYER}model", store.blobs.add_file(path), path.stat().st_size)
    config = Layer("application/vnd.docker.container.image.v1+json", store.blobs.add(b"{}"), 2)
    store.manifests.write(parse_name(name), write_manifest(DOCKER_MANIFEST, config, (layer,)))
