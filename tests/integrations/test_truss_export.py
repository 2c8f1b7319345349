"""Folders for Truss. That Truss reads and serves them is tested beside it (tests/counterparts/truss)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from camelid.errors import InvalidRequest
from camelid.integrations.deployment import Deployment
from camelid.integrations.truss.export import Form, Packaging, write_folder

LLAMA = Deployment("llama", "llama3:8b", "camelid:1", 5 * 2**30, 7 * 2**30, 8192, replicas=1)


def written(folder: Path, packaging: Packaging) -> dict[str, object]:
    write_folder(folder, LLAMA, packaging)
    found: dict[str, object] = yaml.safe_load((folder / "config.yaml").read_text())
    return found


def test_the_class_form_installs_camelid_beside_truss_s_own_packages(tmp_path: Path) -> None:
    config = written(tmp_path / "out", Packaging(Form.CLASS, "H100:2", "camelid[gpu]==1.0", needs_hub_key=True))
    assert config["build_commands"] == [
        "python3 -m venv /opt/camelid",
        "/opt/camelid/bin/pip install --no-cache-dir 'camelid[gpu]==1.0'",
    ]
    assert config["resources"] == {"cpu": "4", "memory": "7Gi", "use_gpu": True, "accelerator": "H100:2"}
    assert config["secrets"] == {"hf_access_token": None}
    assert "requirements" not in config
    names = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert names == ["config.yaml", "model/__init__.py", "model/model.py"]


def test_weights_that_are_a_file_go_along(tmp_path: Path) -> None:
    weights = tmp_path / "own.gguf"
    weights.write_bytes(b"GGUF")
    for form, place in ((Form.CLASS, "data/own.gguf"), (Form.DOCKER, "/app/data/own.gguf")):
        folder = tmp_path / form.value
        config = written(folder, Packaging(form, "", "camelid", weights=weights))
        assert config["environment_variables"]["CAMELID_MODEL"] == place  # type: ignore[index]
        assert (folder / "data" / "own.gguf").read_bytes() == b"GGUF"


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(InvalidRequest, match="exists already"):
        write_folder(tmp_path, LLAMA, Packaging(Form.CLASS, "", "camelid"))
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_a_package_cannot_write_lines_into_the_image_s_build(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="one line"):
        write_folder(tmp_path / "out", LLAMA, Packaging(Form.CLASS, "", "camelid\nRUN something"))
    assert not (tmp_path / "out").exists()
