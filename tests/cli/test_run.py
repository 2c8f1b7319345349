"""What `camelid run` makes of `--format`."""

from __future__ import annotations

from pathlib import Path

import pytest

from camelid.cli.run import read_format
from camelid.errors import BadGrammar, InvalidRequest
from camelid.types import MAX_GRAMMAR, Grammar, GrammarKind


def test_a_format_is_json_or_a_schema_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "integer"}')
    assert read_format("json") == Grammar.json_object("--format")
    assert read_format(str(file)) == Grammar(GrammarKind.JSON_SCHEMA, '{"type": "integer"}', "--format")


def test_a_file_that_cannot_be_a_schema_is_refused(tmp_path: Path) -> None:
    binary, long = tmp_path / "binary", tmp_path / "long"
    binary.write_bytes(b"\xff\xfe\x00")
    long.write_text(" " * (MAX_GRAMMAR + 10))
    for missing in (tmp_path / "nowhere", tmp_path, binary):
        with pytest.raises(InvalidRequest, match=r"--format .* cannot be read"):
            read_format(str(missing))
    with pytest.raises(BadGrammar, match=f"--format must have 1–{MAX_GRAMMAR} characters"):
        read_format(str(long))
