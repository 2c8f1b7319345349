"""What a model may be called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.errors import InvalidRequest
from camelid.store.blobs import Blobs, parse_digest
from camelid.store.manifests import Manifests
from camelid.store.names import DOCKER, HUGGING_FACE, OLLAMA, Name, parse_name

MEANINGS = {
    "llama3.1": (Name(OLLAMA, "library", "llama3.1"), "llama3.1:latest"),
    "llama3.1:8b-instruct-q4_K_M": (
        Name(OLLAMA, "library", "llama3.1", "8b-instruct-q4_K_M"),
        "llama3.1:8b-instruct-q4_K_M",
    ),
    "someone/model:tag": (Name(OLLAMA, "someone", "model", "tag"), "someone/model:tag"),
    "registry.ollama.ai/library/llama3.1": (Name(OLLAMA, "library", "llama3.1"), "llama3.1:latest"),
    "localhost:5000/ns/model:tag": (Name("localhost:5000", "ns", "model", "tag"), "localhost:5000/ns/model:tag"),
    "localhost:5000/model": (Name("localhost:5000", "library", "model"), "localhost:5000/library/model:latest"),
    "example.com/ns/model": (Name("example.com", "ns", "model"), "example.com/ns/model:latest"),
    "ai/llama3.1": (Name(DOCKER, "ai", "llama3.1"), "ai/llama3.1:latest"),
    "docker.io/ai/llama3.1:8B-Q4_K_M": (Name(DOCKER, "ai", "llama3.1", "8B-Q4_K_M"), "ai/llama3.1:8B-Q4_K_M"),
    "index.docker.io/someone/m": (Name(DOCKER, "someone", "m"), "docker.io/someone/m:latest"),
    "oci://registry.example/ns/m:1": (Name("registry.example", "ns", "m", "1"), "registry.example/ns/m:1"),
    "hf.co/org/repo:Q4_K_M": (Name(HUGGING_FACE, "org", "repo", "Q4_K_M"), "hf.co/org/repo:Q4_K_M"),
    "huggingface.co/org/repo": (Name(HUGGING_FACE, "org", "repo"), "hf.co/org/repo:latest"),
    # What would be short means another registry here (found by the fuzz campaign).
    "registry.ollama.ai/ai/m": (Name(OLLAMA, "ai", "m"), "registry.ollama.ai/ai/m:latest"),
    "registry.ollama.ai/localhost/m": (Name(OLLAMA, "localhost", "m"), "registry.ollama.ai/localhost/m:latest"),
    "meta": (Name(OLLAMA, "library", "meta"), "registry.ollama.ai/library/meta:latest"),
    "http://127.0.0.1:9/ns/m": (Name("127.0.0.1:9", "ns", "m", is_plain=True), "127.0.0.1:9/ns/m:latest"),
    "https://[::1]:5000/ns/m": (Name("[::1]:5000", "ns", "m"), "[::1]:5000/ns/m:latest"),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_names_mean_what_users_of_other_tools_expect(text: str) -> None:
    name, shortest = MEANINGS[text]
    assert parse_name(text) == name
    assert str(name) == shortest


@pytest.mark.parametrize("name", [name for name, _ in MEANINGS.values() if not name.is_plain])
def test_the_shortest_writing_means_the_same(name: Name) -> None:
    assert parse_name(str(name)) == name


def test_which_registry_a_bare_name_means_can_be_told() -> None:
    assert parse_name("m", "example.com") == Name("example.com", "library", "m")


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "a:", ":a", "a/", "/a", "a//b", "a/b/c/d", "../a", "a/../b", "..", ".", "a:..", "a b", "a\0", "a\n"),
        *("ftp://host/a/b", "file:///etc/passwd", "a\\b", "é", "a/b.c/d", "x" * 81, "a:" + "x" * 81, "user@host/a/b"),
        *("host:123456/a/b", "-a", "a/-b", "a:.b", "CON\x01", "a?b", "a#b", "a%2fb", "meta/llama/m"),
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_name(text)
    assert caught.value.hint is not None


@given(st.text(max_size=120) | st.from_regex(r"[a-z./:\\-]{1,40}", fullmatch=True))
def test_no_text_leads_out_of_the_store(text: str) -> None:
    root = Path("/store")
    try:
        path = Manifests(root / "manifests").path(parse_name(text))
    except InvalidRequest:
        return
    assert path.parts[:3] == ("/", "store", "manifests")
    assert len(path.parts) == 7
    assert ".." not in path.parts


@given(st.text(max_size=90) | st.from_regex(r"sha256[:-][0-9a-fA-F]{62,66}", fullmatch=True))
def test_no_digest_leads_out_of_the_store(text: str) -> None:
    try:
        digest = parse_digest(text)
    except InvalidRequest:
        return
    assert Blobs(Path("/store/blobs")).path(digest) == Path("/store/blobs") / text.replace(":", "-")
