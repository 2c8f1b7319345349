"""Finding models on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from camelid.errors import NotFound
from camelid.store.local import GIVE, ModelFiles, find
from camelid.store.stamps import stamp


def test_a_file_is_found_by_its_path_and_called_by_its_stem(tmp_path: Path) -> None:
    file = tmp_path / "llama-3.2-1b.Q4_K_M.gguf"
    file.touch()
    assert find(str(file)) == ModelFiles("llama-3.2-1b.Q4_K_M", file)


def test_a_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.gguf").touch()
    assert find("~/a.gguf") == ModelFiles("a", tmp_path / "a.gguf")


def test_a_folder_with_safetensors_is_opened_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    assert find(str(tmp_path)) == ModelFiles(tmp_path.name, tmp_path)


def test_a_folder_with_one_gguf_file_stands_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "only.gguf").touch()
    assert find(str(tmp_path)) == ModelFiles(tmp_path.name, tmp_path / "only.gguf")


def test_a_folder_with_several_gguf_files_asks_which(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(NotFound) as caught:
        find(str(tmp_path))
    assert caught.value.message == f"{tmp_path} holds 2 GGUF files (a.gguf, b.gguf)"
    assert caught.value.hint == "give one of the files"


def test_a_name_that_no_store_has_is_not_found_and_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        find("nothing", str(tmp_path))
    assert caught.value.hint == "fetch it: camelid pull nothing:latest"


@pytest.mark.parametrize("name", ["/no/such/file.gguf", "nothing.gguf", ""])
def test_anything_else_is_not_found_and_says_what_can_be_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound) as caught:
        find(name)
    assert caught.value.hint == GIVE


def test_the_bundled_model_is_found_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cria").mkdir()
    found = find("cria")
    assert (found.name, found.weights.name, found.is_bundled) == ("cria", "cria.gguf", True)


def test_a_stamp_tells_a_file_from_another_in_its_place(tmp_path: Path) -> None:
    file, other = tmp_path / "a.gguf", tmp_path / "b"
    file.write_bytes(b"same")
    other.write_bytes(b"same")
    before = stamp(file)
    assert stamp(file) == before
    other.replace(file)
    assert stamp(file) != before


def test_the_stamp_of_a_folder_covers_its_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = stamp(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    assert stamp(tmp_path) != before


def test_files_that_are_gone_have_no_stamp(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        stamp(tmp_path / "gone.gguf")
