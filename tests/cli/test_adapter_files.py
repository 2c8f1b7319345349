"""Adapters at the command line: merged by `convert`, kept as GGUF by `create`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.lora import random_pairs, spec_of, write_peft_lora

from camelid.cli.main import cli
from camelid.errors import ModelError
from camelid.formats import open_checkpoint, read
from camelid.models.adapters import open_adapted
from camelid.models.lora import open_lora
from camelid.models.spec import Weight
from camelid.store.local import find
from camelid.store.store import Store

VALUES = (Weight.VALUE, Weight.DOWN)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    return write_peft_lora(folder / "peft", random_pairs(spec_of(find("cria").weights), weights=VALUES))


def invoke(*words: str) -> None:
    CliRunner().invoke(cli, words, catch_exceptions=False)


def test_convert_merges_an_adapter(lora: Path, tmp_path: Path) -> None:
    cria, target = find("cria").weights, tmp_path / "merged.gguf"
    invoke("convert", str(cria), str(target), "--merge-adapter", str(lora))
    with open_checkpoint(target) as merged, open_adapted(cria, [lora]) as adapted, open_checkpoint(cria) as plain:
        assert merged.tensors.keys() == plain.tensors.keys()
        changed = [name for name in merged.tensors if merged.raw(name).tobytes() != plain.raw(name).tobytes()]
        assert len(changed) == len(VALUES) * spec_of(cria).num_layers
        for name in changed:
            np.testing.assert_array_equal(read(merged, name), read(adapted, name))


def test_create_keeps_an_adapter_of_peft_s_as_gguf(lora: Path, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text(f"FROM cria\nADAPTER {lora}\n")
    store = Store(tmp_path / "store")
    invoke("create", "mine", "-f", str(tmp_path / "Modelfile"), "--models", str(store.folder))
    (kept,) = find("mine", str(store.folder)).adapters
    with open_lora(kept) as adapter, open_lora(lora) as given:
        assert adapter.pairs.keys() == given.pairs.keys()
    assert not any(store.making.glob("*.gguf"))


def test_create_refuses_an_adapter_of_another_model(tmp_path: Path) -> None:
    pairs = {key: (down[:, :8], up) for key, (down, up) in random_pairs(spec_of(find("cria").weights)).items()}
    write_peft_lora(tmp_path / "other", pairs)
    (tmp_path / "Modelfile").write_text("FROM cria\nADAPTER ./other\n")
    with pytest.raises(ModelError, match="does not fit"):
        invoke("create", "mine", "-f", str(tmp_path / "Modelfile"), "--models", str(tmp_path / "store"))
