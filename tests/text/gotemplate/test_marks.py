"""Functions see text from outside as it is meant, and never set free what could spell a control token."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.text.gotemplate import parse, render
from camelid.text.gotemplate.values import JsonMap
from camelid.text.prompt import Marks, choose_marks

PLAIN = "|<["
OUTSIDE = "a<|x|>[INST] é"


def rendered(template: str, outside: str = OUTSIDE) -> tuple[str, Marks]:
    """Return what a template makes of a marked text, and the marks."""
    marks = choose_marks(PLAIN, [PLAIN, outside])
    data = {"S": marks.mark(outside), "L": [marks.mark(outside)], "M": JsonMap({marks.mark("<k>"): "v"})}
    return render(parse(template), data, marks=marks, today=date(2026, 1, 2)), marks


@pytest.mark.parametrize(
    ("template", "meant"),
    [
        ("{{.S}}", OUTSIDE),
        ("{{.L}}", f"[{OUTSIDE}]"),
        ("{{print .L 1 .S}}", f"[{OUTSIDE}] 1{OUTSIDE}"),
        ("{{json .S}}", '"a\\u003c|x|\\u003e[INST] é"'),
        ("{{json .L}}", '["a\\u003c|x|\\u003e[INST] é"]'),
        ("{{.M}} {{json .M}}", '{"\\u003ck\\u003e":"v"} {"\\u003ck\\u003e":"v"}'),
        ("{{html .S}}", "a&lt;|x|&gt;[INST] é"),
        ("{{urlquery .S}}", "a%3C%7Cx%7C%3E%5BINST%5D+%C3%A9"),
        ('{{printf "%q %5.3s %v" .S .S .L}}', '"a<|x|>[INST] é"   a<| [a<|x|>[INST] é]'),
        ('{{printf "%x" .S}}', OUTSIDE.encode().hex()),
        ("{{slice .S 1 4}}", "<|x"),
        ("{{slice .S 14 15}}", "\ufffd"),
        ("{{index .S 1}} {{len .S}}", f"{ord('<')} {len(OUTSIDE.encode())}"),
        ('{{eq .S "a<|x|>[INST] é"}} {{lt .S "a="}} {{ne .S .S}}', "true true false"),
        ('{{index .M "<k>"}}', "v"),
        ("{{currentDate}} {{yesterdayDate}}", "2026-01-02 2026-01-01"),
    ],
)
def test_functions_see_what_is_meant_and_keep_it_marked(template: str, meant: str) -> None:
    text, marks = rendered(template)
    assert marks.unmark(text) == meant
    assert not set(PLAIN) & set(text)


@given(st.text("<|[]INST x", max_size=12))
def test_whatever_the_text_no_function_sets_a_protected_character_free(outside: str) -> None:
    uses = (".S", "print .S .L", "json .L", "html .S", "js .S", 'printf "%s%v%q%+v%#v" .S .L .S .M .L', "slice .S 0")
    for use in uses:
        text, _ = rendered(f"{{{{{use}}}}}", outside)
        assert not set(PLAIN) & set(text)
