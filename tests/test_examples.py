"""The example programs run as they are, on a small model in Meta's own layout."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from camelid.runtime.converting import Layout, convert_model
from camelid.store.local import find

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def meta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cria` as Meta hands models out: two files of weights, for two processes, and params.json."""
    folder = tmp_path_factory.mktemp("meta") / "Cria"
    convert_model(find("cria").weights, folder, Layout.META, num_files=2)
    assert sorted(path.name for path in folder.glob("*.pth")) == ["consolidated.00.pth", "consolidated.01.pth"]
    return folder


def run(name: str, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", [name, *flags])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert left.value.code == 0
    return runpy.run_path(str(EXAMPLES / name))


def test_texts_are_continued(
    meta_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--ckpt_dir", f"{meta_folder}/", "--max_gen_len=8", "--temperature=0", "--max_batch_size=2"]
    program = run("text_completion.py", flags, monkeypatch)
    printed = capsys.readouterr().out.split("\n==================================\n")
    assert [part.strip("\n").split("\n> ")[0] for part in printed[:-1]] == program["PROMPTS"]


def test_dialogs_are_answered(
    meta_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = run("chat_completion.py", ["--ckpt_dir", str(meta_folder), "--max_gen_len", "8"], monkeypatch)
    printed = capsys.readouterr().out.split("\n==================================\n")
    assert len(printed) == len(program["DIALOGS"]) + 1
    assert all("\n> Assistant: " in part for part in printed[:-1])
