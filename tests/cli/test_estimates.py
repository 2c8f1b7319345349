"""Before a model is fetched: what it takes, whose licence it has, and which variant would fit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.store.hub_server import Hub, serve
from tests.store.registry_server import Served, registry

from camelid.backends.base import Memory
from camelid.backends.cpu.backend import CpuBackend
from camelid.cli.main import cli
from camelid.errors import RegistryError
from camelid.runtime.estimate import estimate
from camelid.settings import ModelSettings
from camelid.store.blobs import digest_of
from camelid.store.local import find
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import parse_name
from camelid.store.variants import variants

MIB = 1 << 20


def head(name: str, file_type: int, layers: int = 32) -> bytes:
    """Return the beginning of an 8B model's file, with an array before the numbers as converters write it."""
    metadata = {
        "general.architecture": "llama",
        "general.size_label": "8B",
        "general.languages": ["en", "de"],
        "general.file_type": file_type,
        "llama.block_count": layers,
        "llama.context_length": 131072,
        "llama.embedding_length": 4096,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.vocab_size": 128256,
        "general.name": name,
    }
    return written(metadata)


def written(metadata: dict[str, object]) -> bytes:
    from tempfile import TemporaryDirectory

    from camelid.formats import write_gguf

    with TemporaryDirectory() as folder:
        write_gguf(Path(folder) / "x.gguf", metadata, [])
        return (Path(folder) / "x.gguf").read_bytes()


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Return a list whose one number is what this machine has free."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    free = [12_000 * MIB]
    monkeypatch.setattr(CpuBackend, "memory", lambda self: Memory(free[0], free[0]))
    return free


def test_memory_is_weights_cache_and_a_process() -> None:
    found = estimate(head("m", 15), 4_700 * MIB, ModelSettings(context_length=8192, device="cpu"))
    assert found is not None
    assert (found.parameters, found.quantization, found.trained_context) == ("8B", "Q4_K_M", 131072)
    cache = 8192 * 32 * 8 * 128 * 2 * 2  # tokens, layers, heads, dimensions, keys and values, float16
    assert found.memory_bytes == 4_700 * MIB + cache + 64 * MIB + 128256 * 1024
    assert found.fits
    short = estimate(head("m", 15), 11_990 * MIB, ModelSettings(device="cpu"))
    assert short is not None
    assert not short.fits


def test_what_says_nothing_gives_no_estimate() -> None:
    for content in (b"", b"GGUF", b"{}", b"[1]", b"\xff" * 100, head("m", 15)[:60]):
        assert estimate(content, 5, ModelSettings(device="cpu")) is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say what a process takes")
def test_the_estimate_is_what_a_process_really_takes() -> None:
    weights = find("cria").weights
    arguments = ["run", "cria", "Hello! " * 100, "--context-length", "512", "--max-tokens", "4"]
    program = f"from camelid.cli.main import run; run({arguments!r}); print(open('/proc/self/status').read())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    resident = int(done.stdout.split("VmHWM:")[1].split()[0]) * 1024
    found = estimate(weights.read_bytes()[:65536], weights.stat().st_size, ModelSettings(context_length=512))
    assert found is not None
    assert found.memory_bytes == pytest.approx(resident, rel=0.2)  # 0.1 here; packages differ


def says(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("CAMELID_DEVICE", "cpu")
    monkeypatch.setenv("CAMELID_CONTEXT_LENGTH", "4096")
    small, large = head("s", 15) + bytes(MIB), head("l", 7) + bytes(3 * MIB)
    hub = Hub(
        {"org/m": {"m-Q4_K_M.gguf": small, "m-Q8_0.gguf": large, "LICENSE": b"# Licence of kindness\n\nBe kind."}}
    )
    with serve(hub) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield hub


def test_variants_are_listed_with_what_they_take(hub: Hub, memory: list[int]) -> None:
    memory[0] = 703 * MIB  # a process takes 189, a context of 4096 tokens 512
    rows = [json.loads(line) for line in says("show", "--variants", "hf.co/org/m", "--json").output.splitlines()]
    assert [(row["name"], row["quantization"], row["fits"]) for row in rows] == [
        ("hf.co/org/m:Q4_K_M", "Q4_K_M", True),
        ("hf.co/org/m:Q8_0", "Q8_0", False),
    ]
    assert rows[0]["tokens_per_second"] > rows[1]["tokens_per_second"] > 0
    table = says("show", "--variants", "hf.co/org/m").output.splitlines()
    assert table[0].split() == ["NAME", "PARAMETERS", "TYPE", "CONTEXT", "SIZE", "MEMORY", "TOKENS/S", "FITS"]
    assert table[1].split()[:6] == ["hf.co/org/m:Q4_K_M", "8B", "Q4_K_M", "131072", "1.0", "MB"]


def test_a_pull_says_what_it_takes_before_the_first_byte(hub: Hub, memory: list[int], tmp_path: Path) -> None:
    memory[0] = 703 * MIB  # a process takes 189, a context of 4096 tokens 512
    said = says("pull", "hf.co/org/m:Q8_0", "--models", tmp_path / "store").stderr
    assert "3.1 MB to fetch" in said
    assert "8B, Q8_0: needs" in said
    assert "at a context of 4096 tokens" in said
    assert re.search(r"^up to [0-9.]+ tokens/s on this machine$", said, re.MULTILINE)
    assert "licence: Licence of kindness" in said
    assert "it does not fit into this machine's memory; hf.co/org/m:Q4_K_M fits" in said
    assert "fit" not in says("pull", "hf.co/org/m:Q4_K_M", "--models", tmp_path / "store").stderr


def test_a_registrys_tags_are_variants(memory: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELID_DEVICE", "cpu")
    config, served = Layer("c", digest_of(b"{}"), 2), Served()
    for tag, file_type in (("8b-q8_0", 7), ("8b-q4_K_M", 15)):
        content = head(tag, file_type) + bytes(file_type * 10)
        served.blobs[str(digest_of(content))] = content
        layer = Layer(f"{OLLAMA_LAYER}model", digest_of(content), len(content))
        served.manifests[f"ns/m:{tag}"] = write_manifest(DOCKER_MANIFEST, config, (layer,)).content
    with registry(served) as host:
        rows = [json.loads(line) for line in says("show", "--variants", f"{host}/ns/m", "--json").output.splitlines()]
    assert [row["quantization"] for row in rows] == ["Q8_0", "Q4_K_M"], "the smallest first"


def test_a_registry_that_cannot_be_reached_is_not_one_without_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camelid.store.variants.OLLAMA", "127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 cannot be reached"):
        variants(parse_name("127.0.0.1:9/library/llama3.1"))
