"""Manifests for the fuzz campaign: made, mutated in their values or their text, and read."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path, PurePosixPath
from typing import Any

from camelid.errors import DamagedManifest
from camelid.store.blobs import Blobs
from camelid.store.manifests import DOCKER_MANIFEST, OCI_MANIFEST, OLLAMA_LAYER, parse_manifest, write_manifest

from .mutation import EDGES, HUGE, Field, mutate

REFUSALS = (DamagedManifest,)
DIGEST = "sha256:" + "0123456789abcdef" * 4
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0.5, 1e400, "", [], {}, [[]], "\ud800", "../../etc/passwd", "sha256:", "x" * 5000),
    *(DIGEST.upper(), DIGEST + "0", DIGEST.replace(":", "-"), "sha512:" + "0" * 64, "sha256:../" + "0" * 61),
    *EDGES,
    *HUGE,
)
PATHS = ("model.gguf", "a/b/c.json", "../x", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\0b", "", "é", "a/" * 9 + "b")


def make(chance: random.Random) -> bytes:
    """Return a manifest, mutated in most cases."""
    given = _manifest(chance)
    way = chance.random()
    if way < 0.4:
        _change_value(given, chance)
    text = json.dumps(given).encode()
    if way > 0.7:
        return mutate(_tokens(text), chance)
    return text


def check(path: Path) -> None:
    """Read a manifest; where that succeeds, its blobs and files must lie where they belong. Raises AssertionError."""
    manifest = parse_manifest(path.read_bytes(), "fuzzed")
    folder = Path("/store/blobs")
    for layer in manifest.blobs:
        place = Blobs(folder).path(layer.digest)
        assert place.parent == folder
        assert re.fullmatch(r"sha256-[0-9a-f]{64}", place.name)
        assert 0 <= layer.size < 2**63
    for layer in manifest.layers:
        if layer.path is not None:
            parts = PurePosixPath(layer.path).parts
            assert parts
            assert not {"..", "/"} & set(parts), layer.path
            assert not set("\\\0") & set(layer.path), layer.path
    written = write_manifest(manifest.media_type, manifest.config, manifest.layers)
    again = parse_manifest(written.content, "written")
    assert (again.config, again.layers, again.media_type) == (manifest.config, manifest.layers, manifest.media_type)


def _manifest(chance: random.Random) -> dict[str, Any]:
    layers = [_layer(chance) for _ in range(chance.randrange(1, 5))]
    kind = chance.choice((DOCKER_MANIFEST, OCI_MANIFEST))
    return {"schemaVersion": 2, "mediaType": kind, "config": _layer(chance), "layers": layers}


def _layer(chance: random.Random) -> dict[str, Any]:
    digest = f"sha256:{chance.getrandbits(256):064x}"
    layer = {
        "mediaType": OLLAMA_LAYER + chance.choice(("model", "template")),
        "digest": digest,
        "size": chance.randrange(99),
    }
    if chance.random() < 0.3:
        layer["annotations"] = {"org.cncf.model.filepath": chance.choice(PATHS)}
    return layer


def _change_value(given: dict[str, Any], chance: random.Random) -> None:
    """Change one value somewhere, or leave it out."""
    value: Any = given
    while True:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if not isinstance(value[key], dict | list) or not value[key] or chance.random() < 0.1:
            break
        value = value[key]
    if isinstance(value, dict) and chance.random() < 0.2:
        del value[key]
    else:
        value[key] = chance.choice(STRANGE)


def _tokens(text: bytes) -> list[Field]:
    """Take JSON text apart at its marks, roughly."""
    fields, start = [], 0
    for at, byte in enumerate(text):
        if byte in b'{}[],:"':
            fields += [Field("text", text[start:at]), Field("text", text[at : at + 1])]
            start = at + 1
    return [*(field for field in fields if field.raw), Field("text", text[start:])]
