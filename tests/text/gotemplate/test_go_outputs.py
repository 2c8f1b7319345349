"""Templates rendered as Go renders them: `go_outputs.json` holds what Go 1.27 made of each.

`python -m tools.gotemplate --go BINARY` compares as many random templates as one likes, and wrote the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools.gotemplate.table import TABLE

from camelid.errors import TemplateError
from camelid.text.gotemplate import parse, render

CASES = json.loads(Path(__file__).with_name("go_outputs.json").read_text(encoding="utf-8"))


def test_the_file_holds_the_whole_table() -> None:
    templates = {case["template"] for case in CASES}
    assert {case["template"] for case in TABLE} <= templates
    assert len(CASES) > 500


def test_every_template_gives_what_go_gives() -> None:
    wrong = []
    for case in CASES:
        try:
            text = render(parse(case["template"]), case["data"])
        except TemplateError:
            text = None
        if text != case.get("text"):
            wrong.append((case["template"], case.get("text"), text))
    assert wrong == []


def test_what_go_refuses_is_refused_with_its_line() -> None:
    for case in CASES:
        if "text" not in case:
            with pytest.raises(TemplateError) as caught:
                render(parse(case["template"]), case["data"])
            assert caught.value.line is not None
            assert 1 <= caught.value.line <= case["template"].count("\n") + 1
