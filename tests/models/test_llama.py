"""The whole forward pass, on the reference backend, against Transformers and against itself in another format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from llama_checkpoints import CONFIGS, gguf_checkpoint, hugging_face_checkpoint, their_logits, transformers_model
from tiny_models import all_logits, batch_of, relative_rms

from camelid.backends.base import Batch, CacheType
from camelid.backends.reference import ReferenceBackend
from camelid.formats import open_checkpoint
from camelid.formats.gguf_writer import tensor_from_raw, write_gguf
from camelid.models.load import Model, load_model
from camelid.models.rope import attention_spec
from camelid.models.spec_hf import read_hugging_face

IDS = np.random.default_rng(1).integers(0, 97, 75).tolist()


@contextmanager
def double_precision() -> Iterator[None]:
    """Let Transformers compute norms and rotations in float64, where its code falls back to float32."""
    from transformers.models.llama import modeling_llama as llama

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary(self: Any, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None].double() * self.inverse_frequencies
        doubled = torch.cat((angles, angles), dim=-1)
        return doubled.cos() * self.attention_scaling, doubled.sin() * self.attention_scaling

    with (
        mock.patch.object(llama.LlamaRMSNorm, "forward", norm),
        mock.patch.object(llama.LlamaRotaryEmbedding, "forward", rotary),
        mock.patch.object(llama.nn.functional, "softmax", lambda x, dim, dtype=None: torch.softmax(x, dim)),
    ):
        yield


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_those_of_transformers(name: str) -> None:
    theirs = transformers_model(CONFIGS[name])
    checkpoint = hugging_face_checkpoint(theirs)
    backend = ReferenceBackend()

    ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5
    theirs.double()
    # Their frequencies are float32; with ours, which a test of their own compares, all the rest must agree to float64.
    frequencies = attention_spec(read_hugging_face(checkpoint)).inverse_frequencies
    theirs.model.rotary_emb.inverse_frequencies = torch.from_numpy(frequencies)
    with double_precision():
        assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-9


@pytest.mark.parametrize("name", ["grouped queries", "tied head", "biases everywhere", "wide heads"])
def test_gguf_and_hugging_face_checkpoints_give_the_same_logits(name: str) -> None:
    theirs = transformers_model(CONFIGS[name])
    backend = ReferenceBackend()

    from_folder = all_logits(load_model(hugging_face_checkpoint(theirs), backend), backend, IDS)
    from_gguf = all_logits(load_model(gguf_checkpoint(theirs), backend), backend, IDS)

    assert relative_rms(from_gguf, from_folder) < 1e-12


def test_rope_divisors_in_gguf_give_the_logits_of_llama_31_scaling() -> None:
    from camelid.models.rope import inverse_frequencies, llama3_divisors
    from camelid.models.spec import Llama3Scaling, RopeSpec

    theirs = transformers_model(CONFIGS["llama 3.1 scaling"])
    scaled = read_hugging_face(hugging_face_checkpoint(theirs)).rope
    checkpoint = gguf_checkpoint(theirs)
    assert isinstance(scaled.scaling, Llama3Scaling)
    plain = inverse_frequencies(RopeSpec(scaled.theta, scaled.rotary_dim, scaled.pairs))
    checkpoint.add("rope_freqs.weight", llama3_divisors(plain, scaled.scaling).astype(np.float32))
    backend = ReferenceBackend()

    ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(hugging_face_checkpoint(transformers_model({})), ReferenceBackend())


@pytest.mark.parametrize("chunk", [1, 7, 32, 33])
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(model: Model, chunk: int) -> None:
    whole = all_logits(model, ReferenceBackend(), IDS)

    assert relative_rms(all_logits(model, ReferenceBackend(), IDS, chunk=chunk), whole) < 1e-13


def test_sequences_of_one_batch_do_not_see_each_other(model: Model) -> None:
    backend = ReferenceBackend()
    backend.open_pages(attention_spec(model.spec), CacheType.F32, 8)
    alone = [all_logits(model, ReferenceBackend(), ids) for ids in (IDS[:40], IDS[40:50])]
    backend.run(model, batch_of([(IDS[:38], 0, [6, 1])]))

    together = backend.run(model, batch_of([(IDS[38:40], 38, [6, 1]), (IDS[40:50], 0, [3])]))

    assert relative_rms(together, np.concatenate([alone[0][38:], alone[1]])) < 1e-13


def test_a_copied_page_continues_as_the_original_would(model: Model) -> None:
    backend = ReferenceBackend()
    backend.open_pages(attention_spec(model.spec), CacheType.F32, 4)
    backend.run(model, batch_of([(IDS[:40], 0, [0, 1])]))
    batch = batch_of([(IDS[40:41], 40, [0, 1]), (IDS[50:51], 40, [0, 3])])
    copying = Batch(
        batch.ids,
        batch.positions,
        batch.row_starts,
        batch.page_table,
        batch.wanted,
        page_copies=np.array([[1, 3]], np.int32),
    )

    logits = backend.run(model, copying)

    expected = [all_logits(model, ReferenceBackend(), [*IDS[:40], token])[-1] for token in (IDS[40], IDS[50])]
    assert relative_rms(logits, np.stack(expected)) < 1e-13


def test_only_wanted_rows_get_logits(model: Model) -> None:
    backend = ReferenceBackend()
    backend.open_pages(attention_spec(model.spec), CacheType.F32, 4)

    logits = backend.run(model, batch_of([(IDS[:10], 0, [2]), (IDS[10:15], 0, [1])], wants_all=False))

    expected = [all_logits(model, ReferenceBackend(), ids)[-1] for ids in (IDS[:10], IDS[10:15])]
    assert relative_rms(logits, np.stack(expected)) < 1e-13


def test_a_float16_cache_changes_logits_by_its_rounding_only(model: Model) -> None:
    exact = all_logits(model, ReferenceBackend(), IDS)

    rounded = all_logits(model, ReferenceBackend(), IDS, cache_type=CacheType.F16)

    assert 1e-6 < relative_rms(rounded, exact) < 2e-3


def test_8192_positions_equal_transformers() -> None:
    theirs = transformers_model(
        {
            "max_position_embeddings": 8192,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_theta": 500000.0,
            "rope_scaling": CONFIGS["llama 3.1 scaling"]["rope_scaling"],
        }
    )
    theirs.config._attn_implementation = "sdpa"
    ids = np.random.default_rng(2).integers(0, 97, 8192).tolist()
    backend = ReferenceBackend(np.float32)

    ours = all_logits(load_model(hugging_face_checkpoint(theirs), backend), backend, ids, chunk=2048)

    assert relative_rms(ours[-512:], their_logits(theirs, ids)[-512:]) < 1e-4


@pytest.mark.parametrize("shard_size", ["5GB", "100KB"])
def test_a_saved_folder_loads_from_disk(tmp_path: Path, shard_size: str) -> None:
    theirs = transformers_model(CONFIGS["tied head"])
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    backend = ReferenceBackend()

    with open_checkpoint(tmp_path) as checkpoint:
        ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5


def test_a_gguf_file_loads_from_disk(tmp_path: Path) -> None:
    theirs = transformers_model({})
    converted = gguf_checkpoint(theirs)
    sources = [
        tensor_from_raw(name, info.shape, info.block_type, converted.raw(name))
        for name, info in converted.tensors.items()
    ]
    write_gguf(tmp_path / "model.gguf", converted.metadata, sources)
    backend = ReferenceBackend()

    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5
