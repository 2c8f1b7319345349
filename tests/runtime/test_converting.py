"""A whole model, tokenizer and all, in every layout; and models of the store made from folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import camelid
from camelid.cli.main import cli
from camelid.errors import InvalidRequest
from camelid.formats import open_checkpoint
from camelid.formats.blocks import BlockType
from camelid.models.synth import write_synthetic
from camelid.runtime.converting import Layout, convert_model
from camelid.runtime.makers import chat_template
from camelid.runtime.vocabularies import read_tokenizer
from camelid.store.local import find
from camelid.store.names import parse_name
from camelid.store.store import Store

TEXTS = ("Hello, how are you?", "  <|eot_id|> 12345 naïve 😀\n\n", "", "a" * 50)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layouts")
    cria = find("cria").weights
    paths = {"cria": cria, "tensors": folder / "tensors", "meta": folder / "meta", "back": folder / "back.gguf"}
    convert_model(cria, paths["tensors"], Layout.SAFETENSORS, quantization="F32")
    convert_model(paths["tensors"], paths["meta"], Layout.META, num_files=2)
    convert_model(paths["meta"], paths["back"], Layout.GGUF)
    return paths


def test_ids_are_the_same_in_all_layouts(layouts: dict[str, Path]) -> None:
    ids = {}
    for name, path in layouts.items():
        with open_checkpoint(path) as checkpoint:
            tokenizer = read_tokenizer(checkpoint)
            ids[name] = [tokenizer.encode(text, with_bos=True) for text in TEXTS]
            ids[name].append(tokenizer.encode("<|start_header_id|>user<|end_header_id|>", parse_special=True))
    assert all(found == ids["cria"] for found in ids.values())


def test_transformers_reads_the_same_ids(layouts: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(layouts["tensors"])
    with open_checkpoint(layouts["cria"]) as checkpoint:
        ours, template = read_tokenizer(checkpoint), chat_template(checkpoint)
    assert theirs("Hello, how are you?").input_ids == ours.encode("Hello, how are you?", with_bos=True)
    assert theirs.decode(ours.encode("Hello, how are you?")) == "Hello, how are you?"
    assert theirs.chat_template == template


def test_a_llama_3_vocabulary_becomes_metas_own_file(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "tiny.gguf", "tiny", "F16", num_layers=1)
    convert_model(tmp_path / "tiny.gguf", tmp_path / "meta", Layout.META)
    assert {path.name for path in (tmp_path / "meta").iterdir()} == {
        "consolidated.00.pth",
        "params.json",
        "tokenizer.model",
    }
    convert_model(tmp_path / "meta", tmp_path / "back.gguf", Layout.GGUF)
    ids = []
    for path in (tmp_path / "tiny.gguf", tmp_path / "meta", tmp_path / "back.gguf"):
        with open_checkpoint(path) as checkpoint:
            tokenizer = read_tokenizer(checkpoint)
            ids.append([tokenizer.encode(text, with_bos=True, parse_special=True) for text in TEXTS])
    assert ids[0] == ids[1] == ids[2]


def test_the_model_answers_the_same_in_all_layouts(layouts: dict[str, Path]) -> None:
    answers = {}
    for name, path in layouts.items():
        with camelid.load(str(path), threads=1, context_length=512) as model:
            answers[name] = model.chat("Say hello in German.", temperature=0, max_tokens=6).text
    assert len({answers["tensors"], answers["meta"], answers["back"]}) == 1
    assert answers["tensors"]


def camelid_says(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("base", ["tensors", "meta"])
def test_a_stored_model_is_made_from_a_folder(layouts: dict[str, Path], tmp_path: Path, base: str) -> None:
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {layouts[base]}\nSYSTEM Be kind.\nPARAMETER temperature 0\n")
    camelid_says("create", "mine", "-f", modelfile, "-q", "Q8_0", "--models", tmp_path / "store")
    store = Store(tmp_path / "store")
    entry = store.entry(parse_name("mine"))
    store.verify(entry)
    with open_checkpoint(store.weights(entry)) as checkpoint:
        assert checkpoint.tensors["blk.0.attn_q.weight"].block_type is BlockType.Q8_0
    assert store.text(entry, "system") == "Be kind."
    assert list((tmp_path / "store" / "making").iterdir()) == []
    with camelid.load("mine", models=str(tmp_path / "store"), threads=1, context_length=512) as model:
        assert model.chat("Hello!", max_tokens=3).usage.completion_tokens > 0


def test_a_stored_model_is_quantized_again_and_keeps_its_texts(layouts: dict[str, Path], tmp_path: Path) -> None:
    modelfile, store = tmp_path / "Modelfile", Store(tmp_path / "store")
    modelfile.write_text(f"FROM {layouts['back']}\nSYSTEM Be kind.\n")
    camelid_says("create", "first", "-f", modelfile, "--models", store.folder)
    modelfile.write_text("FROM first\n")
    camelid_says("create", "second", "-f", modelfile, "-q", "q8_0", "--models", store.folder)
    first, second = (store.entry(parse_name(name)) for name in ("first", "second"))
    assert store.text(second, "system") == "Be kind."
    assert store.weights(second).stat().st_size < 0.4 * store.weights(first).stat().st_size


def test_the_command_chooses_the_layout_by_the_targets_name(tmp_path: Path) -> None:
    cria = find("cria").weights
    camelid_says("convert", cria, tmp_path / "folder", "--type", "BF16")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "folder").iterdir()
    }
    camelid_says("convert", tmp_path / "folder", tmp_path / "a.gguf", "--type", "Q8_0")
    with open_checkpoint(tmp_path / "a.gguf") as checkpoint, open_checkpoint(cria) as before:
        assert set(checkpoint.tensors) == set(before.tensors)
        assert checkpoint.tensors["blk.0.attn_q.weight"].block_type is BlockType.Q8_0
    with pytest.raises(InvalidRequest, match="source itself"):
        convert_model(cria, cria, Layout.GGUF)
