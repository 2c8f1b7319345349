"""Templates that would run for ever, fill the memory or the stack: each ends soon, with an error of ours."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.errors import TemplateError
from camelid.text.gotemplate import Budget, Limits, parse, render

SMALL = Limits(steps=50_000, cpu_s=20, output=100_000)
DOUBLE = '{{$x := "xxxxxxxx"}}{{range 1000}}{{$x = printf "%s%s" $x $x}}{{end}}'
RECURSION = '{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}'
LEVELS = 64


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{range 1000000000000}}{{end}}", "takes more than 50000 steps"),
        ("{{range 1000000000000}}{{continue}}{{end}}", "takes more than 50000 steps"),
        ("{{range 1000000}}{{range 1000000}}{{end}}{{end}}", "takes more than 50000 steps"),
        ("{{range 1000000000000}}xxxxxxxxxxxxxxxxxxxx{{end}}", "writes more than 100000 characters"),
        (DOUBLE, "make more than 400000 characters"),
        ('{{range 1000}}{{$x := printf "%1000000d" 1}}{{end}}', "make more than 400000 characters"),
        ('{{printf "%*d" 1000000 1}}', "make more than 400000 characters"),
        ('{{printf "%.1000000d" 1}}', "make more than 400000 characters"),
        ('{{printf "%-1000000s" .L}}', "make more than 400000 characters"),
        ("{{range 1000}}{{$x := html $.Big}}{{end}}", "make more than"),
        ("{{range 1000}}{{$x := json $.L}}{{end}}", "make more than"),
        ("{{range 1000}}{{$x := slice $.Big 1}}{{end}}", "make more than"),
        ("{{range 5000}}{{$x := len $.Big}}{{end}}", "takes more than 50000 steps"),
        ("{{range 5000}}{{if eq $.Big $.Big}}{{end}}{{end}}", "takes more than 50000 steps"),
        ("{{range 5000}}{{if lt $.Big $.Big}}{{end}}{{end}}", "takes more than 50000 steps"),
        (RECURSION, "nested deeper than 64 levels"),
        ('{{define "a"}}{{template "b" .}}{{end}}{{define "b"}}{{template "a" .}}{{end}}{{template "a"}}', "nested"),
        ("{{if 1}}" * (LEVELS + 1) + "{{end}}" * (LEVELS + 1), "nested 64 levels deep"),
        ("{{" + "(" * (LEVELS + 1) + "1" + ")" * (LEVELS + 1) + "}}", "nested 64 levels deep"),
        ("{{if 0}}" + "{{else if 0}}" * (LEVELS + 1) + "{{end}}", "nested 64 levels deep"),
    ],
)
def test_a_template_that_runs_wild_is_ended(template: str, says: str) -> None:
    big = "<" * 5000
    data = {"Big": big, "L": [big] * 4}
    started = time.process_time()
    with pytest.raises(TemplateError, match=says):
        render(parse(template), data, budget=Budget(SMALL, 0))
    assert time.process_time() - started < 2


def test_processor_time_is_a_limit_of_its_own() -> None:
    limits = Limits(steps=10**9, cpu_s=0.05)
    with pytest.raises(TemplateError, match=r"needs more than 0\.05 s of processor time"):
        render(parse("{{range 1000000000000}}{{end}}"), {}, budget=Budget(limits))


def test_templates_of_one_prompt_share_one_budget() -> None:
    budget, template = Budget(Limits(steps=5000)), parse("{{range 1000}}{{end}}")
    for _ in range(3):
        render(template, {}, budget=budget)
    with pytest.raises(TemplateError, match="steps"):
        _ = [render(template, {}, budget=budget) for _ in range(9)]


def test_what_is_nested_as_deep_as_allowed_renders() -> None:
    deep = LEVELS - 2
    assert render(parse("{{if 1}}" * deep + "x" + "{{end}}" * deep), {}) == "x"
    assert render(parse("{{" + "(" * deep + "1" + ")" * deep + "}}"), {}) == "1"
    chained = "{{" + "(print " * deep + "1" + ")" * deep + "}}"
    assert render(parse(chained), {}) == "1"


def test_a_long_conversation_is_well_within_the_limits() -> None:
    template = parse(
        '{{range $i, $m := .M}}{{$last := eq (len (slice $.M $i)) 1}}{{if eq .Role "user"}}<u>{{.Content}}</u>'
        "{{else}}<a>{{.Content}}</a>{{end}}{{if $last}}!{{end}}{{end}}"
    )
    messages = [{"Role": role, "Content": "some words"} for role in ("user", "assistant")] * 256
    assert render(template, {"M": messages}, budget=Budget(Limits(cpu_s=20), 40_000)).endswith("</a>!")


WORDS = (
    "{{ }} - /* */ ( ) | . .S $ $x := = , \" ` ' \\ if else end range with define template block break nil true 1 1.5e "
    '0x print printf len index slice and json "a" % é x \udc80'
)
ALPHABET = st.sampled_from([*WORDS.split(), " ", "\n"])


@settings(max_examples=150, deadline=None)
@given(st.lists(ALPHABET, max_size=25).map("".join))
def test_any_text_renders_or_is_refused_with_its_line(template: str) -> None:
    failed: TemplateError | None = None
    try:
        render(parse(template), {"S": "text", "L": [1, 2]}, budget=Budget(SMALL)).encode()
    except TemplateError as error:
        failed = error
    assert failed is None or failed.message.startswith(f"the Go template, line {failed.line}: ")
