"""Meta's own model code against ours, on a tiny random checkpoint in one and in two files."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import all_logits
from torch import nn

from camelid.backends.base import RopePairs
from camelid.backends.reference import ReferenceBackend
from camelid.errors import FormatError, InvalidRequest
from camelid.formats import open_checkpoint
from camelid.formats.meta_folder import cut_of
from camelid.models import load
from camelid.models.convert import Companions, convert
from camelid.models.load import load_model, read_spec
from camelid.models.names import Naming

PARAMS: dict[str, Any] = {
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "vocab_size": 96,
    "multiple_of": 32,
    "ffn_dim_multiplier": 1.3,
    "norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "use_scaled_rope": True,
    "rope_scaling_factor": 8.0,
}
IDS = np.random.default_rng(5).integers(0, 96, 45).tolist()
NOTHING = Companions({}, {})


def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for fairscale, whose parallel layers in one process are PyTorch's own."""

    class Linear(nn.Linear):
        def __init__(self, inputs: int, outputs: int, bias: bool = False, **_: Any) -> None:
            super().__init__(inputs, outputs, bias=bias)

    class Embedding(nn.Embedding):
        def __init__(self, count: int, dim: int, **_: Any) -> None:
            super().__init__(count, dim)

    initialize, layers = (ModuleType(f"fairscale.nn.model_parallel.{name}") for name in ("initialize", "layers"))
    initialize.get_model_parallel_world_size = lambda: 1  # type: ignore[attr-defined]
    layers.ColumnParallelLinear = layers.RowParallelLinear = Linear  # type: ignore[attr-defined]
    layers.VocabParallelEmbedding = Embedding  # type: ignore[attr-defined]
    parallel = ModuleType("fairscale.nn.model_parallel")
    parallel.initialize, parallel.layers = initialize, layers  # type: ignore[attr-defined]
    for name in ("fairscale", "fairscale.nn"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for module in (parallel, initialize, layers):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "llama_models.llama3.model", raising=False)


@pytest.fixture
def their_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    _one_process(monkeypatch)
    from llama_models.llama3.args import ModelArgs
    from llama_models.llama3.model import Transformer

    torch.manual_seed(2)
    model = Transformer(ModelArgs(**PARAMS, max_seq_len=64, max_batch_size=1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1))
    return model


def written(model: Any, folder: Path, count: int, pattern: str = "consolidated.{:02d}.pth") -> Path:
    """Write the weights as Meta cuts them, with PyTorch's own writer."""
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(PARAMS))
    weights = {name: value.detach() for name, value in model.state_dict().items() if "freqs" not in name}
    for number in range(count):
        part = {}
        for name, value in weights.items():
            axis = cut_of(name, tuple(value.shape), PARAMS["dim"])
            part[name] = value if axis is None else value.chunk(count, axis)[number].clone()
        torch.save(part, folder / pattern.format(number))
    return folder


def our_logits(path: Path) -> np.ndarray:
    with open_checkpoint(path) as checkpoint:
        backend = ReferenceBackend(np.float64)
        return all_logits(load_model(checkpoint, backend), backend, IDS)


def tensors(path: Path) -> dict[str, bytes]:
    with open_checkpoint(path) as checkpoint:
        return {name: checkpoint.raw(name).tobytes() for name in checkpoint.tensors}


def test_logits_are_those_of_metas_own_code(their_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        theirs = their_model(torch.tensor([IDS]), 0)[0].double().numpy()
    one, two = (written(their_model, tmp_path / str(count), count) for count in (1, 2))
    with open_checkpoint(two) as checkpoint:
        convert(checkpoint, tmp_path / "model.gguf", Naming.GGUF, NOTHING)
        convert(checkpoint, tmp_path / "hf", Naming.HUGGING_FACE, NOTHING)
    for path in (one, two, tmp_path / "model.gguf", tmp_path / "hf"):
        np.testing.assert_allclose(our_logits(path), theirs, atol=2e-4, err_msg=path.name)

    turned = replace(_spec(one), rope=replace(_spec(one).rope, pairs=RopePairs.HALVES))
    monkeypatch.setattr(load, "read_spec", lambda _: turned)
    assert np.abs(our_logits(one) - theirs).max() > 0.05  # the other pairing of dimensions would not go unnoticed


def test_files_are_cut_anew_and_back_byte_by_byte(their_model: Any, tmp_path: Path) -> None:
    source = written(their_model, tmp_path / "two", 2)
    cuts = (("one", "two", 1, False), ("again", "one", 2, False), ("aime", "two", 2, True))
    for target, origin, count, is_merged in cuts:
        with open_checkpoint(tmp_path / origin) as checkpoint:
            convert(checkpoint, tmp_path / target, Naming.META, NOTHING, num_files=count, is_merged=is_merged)
    assert tensors(tmp_path / "one") == tensors(source) == tensors(tmp_path / "again") == tensors(tmp_path / "aime")
    assert json.loads((tmp_path / "again/params.json").read_text()) == PARAMS
    for number in range(2):
        old, new, merged = (
            torch.load(path, weights_only=True)
            for path in (
                source / f"consolidated.0{number}.pth",
                tmp_path / f"again/consolidated.0{number}.pth",
                tmp_path / f"aime/merged.2GPUs.0{number}.pth",
            )
        )
        assert old.keys() == new.keys() == merged.keys()
        assert all(torch.equal(old[name], new[name]) and torch.equal(old[name], merged[name]) for name in old)


def test_aimes_files_and_the_folder_of_hugging_faces_repositories_are_read(their_model: Any, tmp_path: Path) -> None:
    plain = written(their_model, tmp_path / "plain", 1)
    merged = written(their_model, tmp_path / "merged", 2, "merged.2GPUs.{:02d}.pth")
    repository = tmp_path / "repository"
    repository.mkdir()
    written(their_model, repository / "original", 2)
    assert tensors(plain) == tensors(merged) == tensors(repository)


def test_a_missing_file_of_a_set_is_named(their_model: Any, tmp_path: Path) -> None:
    folder = written(their_model, tmp_path / "merged", 2, "merged.2GPUs.{:02d}.pth")
    (folder / "merged.2GPUs.01.pth").unlink()
    with pytest.raises(FormatError, match=r"merged\.2GPUs"):
        open_checkpoint(folder)


def test_a_number_of_files_that_does_not_divide_is_refused(their_model: Any, tmp_path: Path) -> None:
    with (
        open_checkpoint(written(their_model, tmp_path / "one", 1)) as checkpoint,
        pytest.raises(InvalidRequest, match="5 files are not possible"),
    ):
        convert(checkpoint, tmp_path / "five", Naming.META, NOTHING, num_files=5)
    assert not (tmp_path / "five").exists()


def _spec(folder: Path) -> Any:
    with open_checkpoint(folder) as checkpoint:
        return read_spec(checkpoint)
