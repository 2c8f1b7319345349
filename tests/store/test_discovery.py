"""Other programs' models are listed and run where they lie."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import camelid
from camelid.cli.main import cli
from camelid.errors import MissingModel
from camelid.store.discovery import discover
from camelid.store.local import find

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def put(path: Path, content: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_in_cache(home: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Write a repository as the hub's library caches it: blobs, and links to them in a snapshot."""
    place = home / ".cache/huggingface/hub" / f"models--{repository.replace('/', '--')}"
    for path, content in files.items():
        blob = put(place / "blobs" / str(abs(hash((repository, path)))), content)
        link = place / "snapshots" / COMMIT / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return place / "snapshots" / COMMIT


def listed() -> dict[str, tuple[Path, int, str]]:
    return {found.name: (found.weights, found.size, found.program) for found in discover()}


def test_every_programs_files_are_found(home: Path) -> None:
    studio = put(home / ".lmstudio/models/org/Model-GGUF/Model-Q4_K_M.gguf")
    put(home / ".lmstudio/models/org/Model-GGUF/mmproj-Model-f16.gguf")
    cpp = put(home / ".cache/llama.cpp/org_Other-GGUF_other-q8_0.gguf", b"GGUF8")
    put(home / ".cache/llama.cpp/org_Other-GGUF_other-q8_0.gguf.json", b"{}")
    snapshot = put_in_cache(home, "org/tensors", {"model.safetensors": b"12345678", "config.json": b"{}"})
    assert listed() == {
        "hf.co/org/Model-GGUF:Q4_K_M": (studio, 4, "LM Studio"),
        str(cpp): (cpp, 5, "llama.cpp"),
        "hf.co/org/tensors:safetensors": (snapshot, 8, "Hugging Face"),
    }


def test_shards_are_one_model_and_half_a_set_is_none(home: Path) -> None:
    for number in (1, 2):
        put(home / f".lmstudio/models/org/Big/Big-Q8_0-0000{number}-of-00002.gguf")
    put(home / ".lmstudio/models/org/Half/Half-Q8_0-00001-of-00002.gguf")
    assert listed() == {
        "hf.co/org/Big:Q8_0": (home / ".lmstudio/models/org/Big/Big-Q8_0-00001-of-00002.gguf", 8, "LM Studio")
    }


def test_folders_that_were_moved_are_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / ".lmstudio/settings.json", json.dumps({"downloadsFolder": str(home / "models")}).encode())
    put(home / "models/org/repo/m-Q6_K.gguf")
    monkeypatch.setenv("LLAMA_CACHE", str(home / "cpp"))
    put(home / "cpp/x.gguf")
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    put(home / "hf/hub/models--a--b/snapshots/1/b-F16.gguf")
    assert set(listed()) == {"hf.co/org/repo:Q6_K", str(home / "cpp/x.gguf"), "hf.co/a/b:F16"}


def test_a_link_to_nothing_and_a_folder_that_cannot_be_read_are_passed_over(home: Path) -> None:
    folder = home / ".lmstudio/models/org/repo"
    folder.mkdir(parents=True)
    (folder / "gone-Q8_0.gguf").symlink_to(home / "nowhere")
    put(home / ".cache/llama.cpp", b"not a folder")
    assert listed() == {}


def test_a_found_model_runs_in_place_by_its_name(home: Path) -> None:
    weights = find("cria").weights
    snapshot = put_in_cache(home, "org/Cria-GGUF", {"cria-Q8_0.gguf": weights.read_bytes(), "cria-Q2_K.gguf": b"GGUF"})
    assert find("hf.co/org/cria-gguf").weights == snapshot / "cria-Q8_0.gguf"
    with pytest.raises(MissingModel):
        find("hf.co/org/cria-gguf:Q5_K_M")
    with camelid.load("hf.co/org/Cria-GGUF:q8_0", threads=1) as model:
        assert model.chat("Hello!", max_tokens=3).usage.completion_tokens > 0
    assert not (home / ".local").exists(), "nothing is copied"


def test_the_command_lists_them_on_request_only(home: Path) -> None:
    put(home / ".lmstudio/models/org/Model-GGUF/Model-Q4_K_M.gguf")
    shown = CliRunner().invoke(cli, ["list", "--all"]).output
    assert "hf.co/org/Model-GGUF:Q4_K_M    LM Studio" in shown
    assert "LM Studio" not in CliRunner().invoke(cli, ["list"]).output
    (row,) = map(json.loads, CliRunner().invoke(cli, ["list", "--all", "--json"]).output.splitlines())
    assert (row["name"], row["program"]) == ("hf.co/org/Model-GGUF:Q4_K_M", "LM Studio")
    shutil.rmtree(home / ".lmstudio")
