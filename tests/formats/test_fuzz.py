"""A small fuzz campaign against each reader; the large one is a command, `python -m tools.fuzz formats`."""

from types import ModuleType

import pytest
from tools.fuzz import gguf_target, pth_target, safetensors_target
from tools.fuzz.campaign import run_campaign


@pytest.mark.parametrize("target", [gguf_target, safetensors_target, pth_target], ids=lambda target: target.__name__)
def test_mutated_files_are_refused_or_read_like_the_reference_does(target: ModuleType) -> None:
    report = run_campaign(target.make, target.check, seed=7, runs=1500)
    assert report.accepted > 100  # else the campaign has lost its way into the deep checks
    assert report.refused.total() > 800
