"""Names and digests for the fuzz campaign: nothing that is taken for one ever leads out of the store."""

from __future__ import annotations

import os
import random
from pathlib import Path

from camelid.errors import InvalidRequest
from camelid.store.blobs import Blobs, parse_digest
from camelid.store.manifests import Manifests
from camelid.store.names import parse_name

REFUSALS = (InvalidRequest,)
STORE = Path("/store")
GOOD = ("llama3.1", "8b-instruct-q4_K_M", "library", "localhost", "hf.co", "ai", "docker.io", "host:5000", "a", "_")
PARTS = (
    *(
        "llama3.1",
        "8b-instruct-q4_K_M",
        "library",
        "localhost",
        "hf.co",
        "ai",
        "docker.io",
        "registry.ollama.ai",
        "meta",
        "a",
        "_",
    ),
    *(
        "..",
        ".",
        "",
        "~",
        "-",
        "...",
        "..%2f",
        "%2e%2e",
        "a..b",
        ".hidden",
        "a.",
        "\0",
        "a\0b",
        "\\",
        "..\\..",
        "C:",
        "con",
    ),
    *("é", "日本", "\u202e", "\ud800", " ", "\n", "a b", "*", "$(id)", ";", "'", '"', "x" * 79, "x" * 81, "x" * 351),
    *("[::1]", "[::1", "127.0.0.1", "user@host", "host:99999", "host:x", "UPPER", "sha256:" + "0" * 64, "sha256"),
)
SEPARATORS = (*"/" * 12, ":", ":", "", "//", "/../", "@", "://", "\\", "?", "#")
SCHEMES = ("", "", "", "http://", "https://", "oci://", "file://", "javascript:", "HTTP://")
HEX = "0123456789abcdef"


def make(chance: random.Random) -> bytes:
    """Return a name or a digest, or what is nearly one."""
    if chance.random() < 0.2:
        return _digest(chance).encode("utf-8", errors="surrogatepass")
    text = chance.choice(SCHEMES) if chance.random() < 0.5 else ""
    for index in range(chance.randrange(1, 5)):
        text += (chance.choice(SEPARATORS) if index else "") + _part(chance)
    if chance.random() < 0.3:
        text += ":" + _part(chance)
    return text.encode("utf-8", errors="surrogatepass")


def check(path: Path) -> None:
    """Hold a text against the rules. Raises InvalidRequest for what is neither name nor digest, AssertionError."""
    check_text(path.read_bytes().decode("utf-8", errors="surrogatepass"))


def check_text(text: str) -> None:
    """Where a text is taken for a digest or a name, its file must lie in its folder of the store."""
    try:
        place = Blobs(STORE / "blobs").path(parse_digest(text))
        assert place.parent == STORE / "blobs"
    except InvalidRequest:
        name = parse_name(text)
        place = Manifests(STORE / "manifests").path(name)
        assert place.relative_to(STORE / "manifests").parts == name.parts
        assert parse_name(str(name)).parts == name.parts
        assert not set("/\\") & set("".join(name.parts))
        assert not {".", ".."} & set(name.parts)
    assert os.path.normpath(place) == str(place), place
    assert str(place).isascii()
    assert str(place).isprintable()
    assert all(len(part) < 360 for part in place.parts)


def _part(chance: random.Random) -> str:
    way = chance.random()
    if way < 0.8:
        return chance.choice(GOOD if way < 0.6 else PARTS)
    return "".join(chance.choice("abzAZ019_.-:/\\~%é\0 ") for _ in range(chance.choice((1, 2, 5, 80))))


def _digest(chance: random.Random) -> str:
    length = chance.choice((64, 64, 64, 63, 65, 0, 128))
    alphabet = chance.choice((HEX, HEX, HEX.upper(), HEX + "/.", HEX + "\n"))
    digits = "".join(chance.choice(alphabet) for _ in range(length))
    return (
        chance.choice(("sha256:", "sha256-", "sha256", "sha512:", "SHA256:", "../sha256-"))
        + digits
        + chance.choice(("", "", "\n"))
    )
