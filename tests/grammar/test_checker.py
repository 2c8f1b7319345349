"""A grammar from outside is tried in a process with limits, and the verdict names what was asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from camelid.errors import BadGrammar, Overloaded
from camelid.grammar.checker import CheckLimits, GrammarChecker
from camelid.types import Grammar, GrammarKind

# Whether any text fits all of these takes the library for ever to find out.
ENDLESS = Grammar.schema(
    {"allOf": [{"type": "string", "pattern": f"(.*{letter}.*){{3}}"} for letter in "abcdefghijklmnop"]}, "format"
)

# One state for each remainder.
LARGE = Grammar.schema({"type": "integer", "multipleOf": 99_999_989}, "format")


@pytest.fixture(scope="module")
def checker() -> Iterator[GrammarChecker]:
    checker = GrammarChecker()
    yield checker
    checker.close()


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar.json_object("g"),
        Grammar.schema({"type": "array", "items": {"enum": [1, "a", None]}}, "g"),
        Grammar.schema({"$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}, "g"),
        Grammar.schema({"not": {}, "type": "object"}, "g", is_lenient=True),
        Grammar(GrammarKind.REGEX, r"[a-z]+/\d{2,3}"),
        Grammar(GrammarKind.LARK, 'start: "a" b\nb: /[0-9]+/'),
        Grammar(GrammarKind.GBNF, 'root ::= "yes" | "no" [0-9]{2}'),
        Grammar.choice(["yes", 'a "quoted"\none', "naïve"], "g"),
    ],
)
def test_what_can_be_followed_is_prepared_once(checker: GrammarChecker, grammar: Grammar) -> None:
    prepared = checker.prepare(grammar)
    assert prepared
    assert checker.prepare(grammar) is prepared


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Grammar.schema({"type": "array", "uniqueItems": True}, "format"), 'Unimplemented keys: ["uniqueItems"]'),
        (Grammar.schema({"type": "nonsense"}, "format"), "Invalid type: nonsense"),
        (Grammar.schema({"minimum": 5, "maximum": 1, "type": "integer"}, "format"), "Unsatisfiable schema"),
        (Grammar.schema({"$ref": "http://example.org/x"}, "format"), "is not present in a registry"),
        (Grammar(GrammarKind.REGEX, "(", "format"), "unclosed group"),
        (Grammar(GrammarKind.REGEX, "a(?=b)", "format"), "look-around"),
        (Grammar(GrammarKind.REGEX, "(" * 2000, "format"), ""),
        (Grammar(GrammarKind.LARK, "nothing", "format"), ""),
        (Grammar(GrammarKind.LARK, "start: " + "(" * 20_000, "format"), ""),
        (Grammar(GrammarKind.GBNF, "root ::= nowhere", "format"), ""),
        (Grammar(GrammarKind.GBNF, "root ::= " + "(" * 20_000, "format"), ""),
        (Grammar(GrammarKind.REGEX, "\ud800", "format"), ""),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_field(
    checker: GrammarChecker, grammar: Grammar, message: str
) -> None:
    with pytest.raises(BadGrammar) as caught:
        checker.prepare(grammar)
    assert caught.value.field == "format"
    assert caught.value.message.startswith("format: ")
    assert message in caught.value.message
    assert len(caught.value.message) < 400


def test_what_takes_too_long_is_given_up_and_the_next_is_checked() -> None:
    checker = GrammarChecker(CheckLimits(seconds=0.3))
    for grammar in (ENDLESS, LARGE):
        with pytest.raises(BadGrammar, match=r"format: it takes more than 0.3 s or 256 MiB to compile") as caught:
            checker.prepare(grammar)
        assert caught.value.field == "format"
    assert checker.prepare(Grammar.json_object("format"))
    checker.close()


def test_what_takes_too_much_memory_is_given_up() -> None:
    checker = GrammarChecker(CheckLimits(seconds=20.0, memory_bytes=96 * 2**20))
    with pytest.raises(BadGrammar, match="96 MiB"):
        checker.prepare(ENDLESS)
    checker.close()


def test_a_process_that_died_is_replaced(checker: GrammarChecker) -> None:
    checker.prepare(Grammar(GrammarKind.REGEX, "before"))
    for worker in checker._idle:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
    assert checker.prepare(Grammar(GrammarKind.REGEX, "after"))


def test_callers_are_sent_away_while_all_processes_are_busy() -> None:
    checker = GrammarChecker(CheckLimits(seconds=0.01, num_processes=1))
    checker._free.acquire()
    with pytest.raises(Overloaded, match="every process that checks grammars is busy"):
        checker.prepare(Grammar.json_object("format"))


def test_the_same_schema_is_refused_under_the_name_that_each_caller_has_for_it(checker: GrammarChecker) -> None:
    bad: Any = {"type": "nonsense"}
    for field in ("format", "response_format.json_schema.schema"):
        with pytest.raises(BadGrammar) as caught:
            checker.prepare(Grammar.schema(bad, field))
        assert caught.value.message == f"{field}: Invalid type: nonsense"
