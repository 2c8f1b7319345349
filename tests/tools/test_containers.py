"""The Dockerfile keeps its form, and its reader reads it as Docker would."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from tools.containers.context import files, is_sent
from tools.containers.dockerfile import Stage, stages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image() -> list[Stage]:
    return stages((ROOT / "containers" / "Dockerfile").read_text(), {"VERSION": "1.2", "MODEL": "llama3.2:1b"})


def test_the_image_is_not_root_s_and_needs_no_shell(image: list[Stage]) -> None:
    last = image[-1]
    user = last.last("USER")
    assert user is not None
    assert user.text == "10001:10001"
    for name, words in (("ENTRYPOINT", ("camelid",)), ("CMD", ("serve",))):
        step = last.last(name)
        assert step is not None
        assert step.arguments == words
    health = last.last("HEALTHCHECK")
    assert health is not None
    assert health.arguments is not None


def test_arguments_variables_and_labels_are_filled_in(image: list[Stage]) -> None:
    assert [(stage.base, stage.name) for stage in image] == [("python:3.12-slim", "build"), ("python:3.12-slim", "1")]
    assert image[-1].variables["CAMELID_MODEL"] == "llama3.2:1b"
    assert image[-1].labels()["org.opencontainers.image.version"] == "1.2"
    assert image[-1].labels()["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_what_is_copied_is_there_and_comes_from_a_stage(image: list[Stage]) -> None:
    names = {stage.name for stage in image}
    for step in (step for stage in image for step in stage.steps if step.name == "COPY"):
        assert step.flags.get("from", "build") in names
    sent = {str(file) for file in files(ROOT)}
    assert {"pyproject.toml", "README.md", "LICENSE", "CMakeLists.txt", "src/camelid/__init__.py"} <= sent
    assert not any(name.startswith(("tests/", "docs/", ".")) for name in sent)


@pytest.mark.parametrize(
    ("name", "sent"), [("src/a/b.py", True), ("src/a/_native.so", False), ("tests/x.py", False), ("LICENSE", True)]
)
def test_the_last_line_that_matches_counts(name: str, sent: bool) -> None:
    assert is_sent(name, ["*", "!src", "!LICENSE", "**/*.so"]) is sent


def test_a_shell_accepts_every_step(image: list[Stage]) -> None:
    for step in (step for stage in image for step in stage.steps if step.name == "RUN" and step.arguments is None):
        assert subprocess.run(["sh", "-n", "-c", step.text], check=False).returncode == 0, step.text


@pytest.mark.parametrize("name", ["compose.yaml", "compose.models.yaml"])
def test_services_of_compose_refer_to_what_is_there(name: str) -> None:
    made = yaml.safe_load((ROOT / "containers" / name).read_text())
    for service in made["services"].values():
        build = service.get("build")
        assert build is None or (ROOT / "containers" / build["context"] / build["dockerfile"]).is_file()
        assert set(service.get("models", {})) <= set(made.get("models", {}))
        assert set(service.get("depends_on", {})) <= set(made["services"])
