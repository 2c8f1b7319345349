"""Small fuzz campaigns against what reads text from outside; `python -m tools.fuzz texts` makes large ones."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import pytest
from tools.fuzz import gotemplate_target, manifests_target, modelfile_target, names_target
from tools.fuzz.campaign import run_campaign

from camelid.errors import InvalidRequest
from camelid.store.manifests import DOCKER_MANIFEST, Layer, write_manifest
from camelid.store.names import parse_name
from camelid.store.store import Store

TARGETS = [modelfile_target, gotemplate_target, manifests_target, names_target]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__.rpartition(".")[2])
def test_mutated_texts_are_refused_or_read_by_the_rules(target: ModuleType) -> None:
    report = run_campaign(target.make, target.check, seed=7, runs=500, refusals=target.REFUSALS)
    assert report.accepted > 80  # else the campaign has lost its way
    assert report.refused.total() > 200


def test_no_name_ever_leads_out_of_the_store(tmp_path: Path) -> None:
    for number in range(5_000):
        try:
            names_target.check_text(_text(number))
        except InvalidRequest:
            continue
    store = Store(tmp_path / "store")
    layer = Layer("x", store.blobs.add(b"x"), 1)
    manifest = write_manifest(DOCKER_MANIFEST, layer, (layer,))
    for number in range(300):
        try:
            name = parse_name(_text(number))
        except InvalidRequest:
            continue
        store.manifests.write(name, manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert {path.name for path in store.folder.iterdir()} <= {"blobs", "manifests", "locks"}
    files = [path for path in store.manifests.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert all(len(path.relative_to(store.manifests.folder).parts) == 4 for path in files)


def _text(number: int) -> str:
    return names_target.make(random.Random(number)).decode("utf-8", errors="surrogatepass")
