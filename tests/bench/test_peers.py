"""Comparing with peers: processes that take turns, ratios by round, losses told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from camelid.bench.peers.adapter import About, Done, Job, Opening
from camelid.bench.peers.compare import PEERS, Kind, Plan, compare
from camelid.bench.peers.process import ADAPTER, PeerFailed, PeerProcess
from camelid.bench.result import Measure
from camelid.bench.roofs import Roofs
from camelid.errors import InvalidSetting
from camelid.models.synth import write_synthetic
from camelid.settings import ModelSettings

SETTINGS = ModelSettings(device="cpu", threads=1)
PROMPT, ANSWERS = Kind("prompt", 1, 64, 1), Kind("answers", 2, 8, 5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("peers") / "tiny.gguf"
    write_synthetic(file, "tiny", "Q4_K_M", num_layers=1)
    return str(file)


class Scripted:
    """Stands in for a peer's process: each job takes what the script says."""

    def __init__(self, adapter: str, python: str, environment: dict[str, str], say_errors: int) -> None:
        self.adapter = adapter
        self.num_jobs = 0
        if adapter == "with_llama_cpp":
            raise PeerFailed("ModuleNotFoundError: No module named 'llama_cpp'")

    def open(self, opening: Opening, limit_s: float) -> About:
        return About(f"{self.adapter} 1.0", "the GGUF file", f"{opening.threads} threads")

    def work(self, job: Job, limit_s: float) -> Done | None:
        self.num_jobs += 1
        if self.adapter == "with_transformers" and self.num_jobs > 3:
            raise PeerFailed("its process ended")
        if self.adapter == "with_openvino_genai" and len(job.prompts) > 1:
            return None
        seconds = {"with_camelid": 1.0, "with_ctranslate2": 0.5}.get(self.adapter, 2.0)
        return Done(seconds, seconds, len(job.prompts) * (job.new_tokens - 1))

    def halt(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camelid.bench.peers.compare.PeerProcess", Scripted)
    monkeypatch.setattr(
        "camelid.bench.peers.compare.probe_roofs", lambda isa, threads: Roofs(isa, threads, 20e9, 400e9, 100e9)
    )


def test_wins_and_losses_are_told_alike(scripted: None, tiny: str, tmp_path: Path) -> None:
    result = compare(Plan(tiny, (PROMPT, ANSWERS), 3, tuple(PEERS), None, tmp_path), SETTINGS)
    rows = {(row.labels["work"], row.labels["engine"]): row.measures for row in result.rows}
    assert rows["prompt, 64", "with_camelid 1.0"].keys() == {"speed"}
    assert rows["prompt, 64", "with_ctranslate2 1.0"]["Camelid is"] == Measure("×", (0.5,) * 3)
    assert rows["prompt, 64", "with_openvino_genai 1.0"]["Camelid is"] == Measure("×", (2.0,) * 3)
    assert rows["prompt, 64", "with_ctranslate2 1.0"]["speed"].roof is None  # it reads other bytes
    assert rows["answers, 2 streams, 8 + 5", "with_camelid 1.0"]["speed"].samples == (8.0,) * 3
    assert ("answers, 2 streams, 8 + 5", "with_openvino_genai 1.0") not in rows
    assert result.notes[:2] == (
        "Lost: prompt, 64: ctranslate2 is 2.00 × as fast as Camelid",
        "Lost: answers, 2 streams, 8 + 5: ctranslate2 is 2.00 × as fast as Camelid",
    )
    absent = [note for note in result.notes if "was not measured" in note]
    assert absent == [
        "llama.cpp was not measured: ModuleNotFoundError: No module named 'llama_cpp'",
        "transformers was not measured: answers, 2 streams, 8 + 5: its process ended",
    ]


def test_an_unknown_peer_is_refused(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="no peer 'fast'"):
        compare(Plan(tiny, (PROMPT,), 1, ("fast",), None, tmp_path), SETTINGS)


def test_adapters_need_nothing_of_camelid_to_start() -> None:
    script = f"import sys; sys.argv = ['adapter.py', 'with_llama_cpp']; exec(open({str(ADAPTER)!r}).read())"
    code = "import sys; sys.modules['camelid'] = None\n" + f"__file__ = {str(ADAPTER)!r}\n" + script
    done = subprocess.run([sys.executable, "-I", "-c", code], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_peers_process_works_is_halted_and_says_what_went_wrong(tiny: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    peer = PeerProcess("with_camelid", sys.executable, environment, subprocess.DEVNULL)
    try:
        opening = Opening(tiny, {}, threads=1, context=64, streams=2, folder=str(tmp_path))
        about = peer.open(opening, 60)
        assert about.weights == "the GGUF file"
        peer.halt()
        done = peer.work(Job([[1, 2, 3], [4, 5, 6]], 4), 60)
        assert done is not None
        assert done.decode_tokens in range(1, 7)  # of both, after both have begun
        with pytest.raises(PeerFailed, match="InvalidRequest: prompt"):
            peer.work(Job([[10**6]], 1), 60)
    finally:
        peer.close()


def test_an_adapter_that_cannot_open_its_engine_says_why(tmp_path: Path) -> None:
    peer = PeerProcess("with_nothing", sys.executable, dict(os.environ), subprocess.DEVNULL)
    try:
        with pytest.raises(PeerFailed, match="FileNotFoundError"):
            peer.open(Opening("", {}, 1, 64, 1, str(tmp_path)), 60)
    finally:
        peer.close()
