"""Private models of Ollama's registry: a token is asked for with a signature of the user's key."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from camelid.errors import RegistryError
from camelid.store.blobs import digest_of
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import Name, parse_name
from camelid.store.signing import find_signer, signed_url
from camelid.store.store import Store
from camelid.store.transfer import Watcher, pull
from tests.store.registry_server import Served, registry


@pytest.fixture(autouse=True)
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where Ollama's key would be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ollama").mkdir()
    return tmp_path / ".ollama" / "id_ed25519"


def write_key(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(encoding, kind, serialization.NoEncryption()))
    return key


def public(key: Ed25519PrivateKey) -> str:
    encoding, kind = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(encoding, kind).split()[1].decode()


@pytest.fixture
def served() -> Served:
    layers = (Layer(f"{OLLAMA_LAYER}model", digest_of(b"weights"), 7),)
    manifest = write_manifest(DOCKER_MANIFEST, Layer("c", digest_of(b"{}"), 2), layers)
    contents = {str(digest_of(content)): content for content in (b"weights", b"{}")}
    return Served({"me/private:latest": manifest.content}, contents, token="sesame", signers={})


@pytest.fixture
def name(served: Served) -> Iterator[Name]:
    with registry(served) as host:
        yield parse_name(f"{host}/me/private")


def fetch(tmp_path: Path, name: Name) -> None:
    store = Store(tmp_path / "store")
    pull(store, name, Watcher(), lambda *_: None)
    store.verify(store.entry(name))


def test_a_private_model_is_pulled_with_the_key_of_its_owner(
    tmp_path: Path, key_file: Path, served: Served, name: Name
) -> None:
    key = write_key(key_file)
    served.signers = {public(key): key.public_key()}
    fetch(tmp_path, name)
    assert len(served.signed) >= 1


def test_without_a_key_or_with_another_one_the_way_in_is_told(
    tmp_path: Path, key_file: Path, served: Served, name: Name
) -> None:
    with pytest.raises(RegistryError, match="does not let us in") as told:
        fetch(tmp_path, name)
    assert "ollama.com/settings/keys" in (told.value.hint or "")
    write_key(key_file)
    with pytest.raises(RegistryError, match="with this machine's key"):
        fetch(tmp_path, name)


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_said(tmp_path: Path, key_file: Path, name: Name, content: bytes) -> None:
    key_file.write_bytes(content)
    with pytest.raises(RegistryError, match="cannot be used"):
        fetch(tmp_path, name)


def test_no_two_requests_are_alike() -> None:
    urls = {signed_url("https://registry.ollama.ai/token", {"scope": "x"}) for _ in range(20)}
    assert len(urls) == 20


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not in the PATH")
def test_a_key_of_openssh_itself_is_read(key_file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key_file)], check=True)
    signer = find_signer()
    assert signer is not None
    assert signer.public == key_file.with_suffix(".pub").read_text().split()[1]
