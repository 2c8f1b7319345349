"""Text and tool calls come apart the same way wherever the output is cut."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from camelid.text import Tokenizer
from camelid.text.detokenize import Detokenizer
from camelid.text.toolcalls import PYTHON_TAG, TextPiece, ToolCallPiece, ToolCallSplitter, shown_ids

TOOLS = ("get_weather", "noop", "brave_search")
Piece = TextPiece | ToolCallPiece


def split(chunks: list[str], tools: tuple[str, ...] = TOOLS) -> list[Piece]:
    """Return all pieces, with texts that follow each other joined."""
    splitter = ToolCallSplitter(tools)
    joined: list[Piece] = []
    for piece in [*(piece for chunk in chunks for piece in splitter.push(chunk)), *splitter.finish()]:
        if joined and isinstance(piece, TextPiece) and isinstance(joined[-1], TextPiece):
            joined[-1] = TextPiece(joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return joined


def weather(**arguments: object) -> ToolCallPiece:
    return ToolCallPiece("get_weather", json.dumps(arguments, ensure_ascii=False))


NOOP = ToolCallPiece("noop", "{}")
CALL = '{"name": "noop", "parameters": {}}'


def only_text(text: str) -> tuple[str, list[Piece]]:
    return text, [TextPiece(text)]


CASES: dict[str, tuple[str, list[Piece]]] = {
    "json": ('{"name": "get_weather", "parameters": {"city": "Zürich"}}', [weather(city="Zürich")]),
    "json with a type": ('{"type": "function", "name": "noop", "parameters": {}}', [NOOP]),
    "json of an api": ('{"type": "function", "function": {"name": "noop", "arguments": {}}}', [NOOP]),
    "json with function as the name": ('{"function": "noop", "parameters": {}}', [NOOP]),
    "json with parameters first": ('{"parameters": {"a": 1}, "name": "get_weather"}', [weather(a=1)]),
    "arguments as text": ('{"name": "get_weather", "arguments": "{\\"a\\": [1, {}]}"}', [weather(a=[1, {}])]),
    "braces and quotes in arguments": (
        '{"name": "get_weather", "parameters": {"a": "}\\"{\\\\"}}',
        [weather(a='}"{\\')],
    ),
    "over several lines": ('\n{\n  "name": "noop",\n  "parameters": {\n  }\n}\n', [NOOP]),
    "two calls with a semicolon": (
        '{"name": "noop", "parameters": {}}; {"name": "noop", "parameters": {}}',
        [NOOP, NOOP],
    ),
    "two calls on two lines": (
        '{"name": "noop", "parameters": {}}\n{"name": "noop", "parameters": {}}\n',
        [NOOP, NOOP],
    ),
    "text before a call": ('Let me look.\n\n{"name": "noop", "parameters": {}}', [TextPiece("Let me look."), NOOP]),
    "text after a call": ('{"name": "noop", "parameters": {}} Done.', [NOOP, TextPiece(" Done.")]),
    "tagged json": (PYTHON_TAG + '{"name": "noop", "parameters": {}}', [NOOP]),
    "built-in": (
        PYTHON_TAG + 'brave_search.call(query="it\'s (a) \\"b\\", c")',
        [ToolCallPiece("brave_search", '{"query": "it\'s (a) \\"b\\", c"}')],
    ),
    "built-in with several values": (
        PYTHON_TAG + "brave_search.call(query='x', count=3, safe=True, near=None)",
        [ToolCallPiece("brave_search", '{"query": "x", "count": 3, "safe": true, "near": null}')],
    ),
    "function tag": ('<function=get_weather>{"city": "Bern"}</function>', [weather(city="Bern")]),
    "function tag without its end": ('<function=get_weather> {"city": "Bern"}', [weather(city="Bern")]),
    "function tags and text": (
        "So: <function=noop>{}</function>; <function=noop>{}</function>\nbye",
        [TextPiece("So:"), NOOP, NOOP, TextPiece("\nbye")],
    ),
    # no calls
    "plain text": ("Hello <b>|</b> {x} \n", [TextPiece("Hello <b>|</b> {x} \n")]),
    "a json answer": only_text('{"answer": {"name": "noop"}}'),
    "another name": only_text('{"name": "Bob", "parameters": {}}'),
    "no arguments": only_text('{"name": "noop"}'),
    "arguments that are a list": only_text('{"name": "noop", "parameters": []}'),
    "broken json": only_text('{"name": "noop", "parameters": {,}}'),
    "not a number": only_text('{"name": "noop", "parameters": {"a": NaN}}'),
    "no end": only_text('{"name": "noop", "parameters": {"a'),
    "in the middle of a line": only_text('Use {"name": "noop", "parameters": {}}'),
    "an unknown function tag": ("<function=other>{}</function>", [TextPiece("<function=other>{}</function>")]),
    "a function tag without an object": ("<function=noop>x", [TextPiece("<function=noop>x")]),
    "the beginning of a tag": ("a <func", [TextPiece("a <func")]),
    "code without an interpreter": (PYTHON_TAG + "print(1)", [TextPiece("print(1)")]),
    "an unknown built-in": (PYTHON_TAG + "other.call(a=1)", [TextPiece("other.call(a=1)")]),
    "a broken built-in": (PYTHON_TAG + "brave_search.call(a b)", [TextPiece("brave_search.call(a b)")]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("name", list(CASES))
def test_output_is_split(name: str) -> None:
    text, pieces = CASES[name]
    assert split([text]) == pieces
    assert split(list(text)) == pieces


def test_code_for_the_interpreter_is_a_call_when_there_is_one() -> None:
    tools = (*TOOLS, "code_interpreter")
    for code in ("print(1)\nprint('{}')", '{"a": 1}["a"]', '{"name": "noop", "par'):
        call = ToolCallPiece("code_interpreter", json.dumps({"code": code}))
        assert split([PYTHON_TAG + code], tools) == [call]
        assert split(list(PYTHON_TAG + code), tools) == [call]
    assert split([PYTHON_TAG + '{"name": "noop", "parameters": {}}'], tools) == [NOOP]


FRAGMENTS = (
    PYTHON_TAG,
    "<function=noop>",
    "</function>",
    '{"name": "noop", ',
    '"parameters": {}}',
    "{",
    "}",
    '"',
    "\\",
)
SPACES = ("\n", " ", ";", " " * 63, " " * 66, "\n" * 66)
PARTS = st.sampled_from([*(text for text, _ in CASES.values()), *FRAGMENTS, *SPACES])


@st.composite
def outputs(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = "".join(draw(st.lists(PARTS, max_size=6)))
    borders = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return text, [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]


@settings(max_examples=250, deadline=None)
@given(outputs(), st.booleans())
@example(("{\n{\n", ["{\n", "{\n"]), False)
def test_any_chunking_gives_the_same_pieces(output: tuple[str, list[str]], with_code: bool) -> None:
    text, chunks = output
    tools = (*TOOLS, "code_interpreter") if with_code else TOOLS
    assert split(chunks, tools) == split([text], tools) == split(list(text), tools)


@settings(max_examples=300, deadline=None)
@given(st.text('{}":;, \n<|>/=abfunctio', max_size=60))
def test_what_is_no_call_is_text_to_the_letter(text: str) -> None:
    pieces = split([text])
    assert pieces == ([TextPiece(text)] if text else [])


def test_plain_text_and_json_answers_are_not_held_back() -> None:
    splitter = ToolCallSplitter(TOOLS)
    assert splitter.push("Hello wor") == [TextPiece("Hello wor")]
    assert splitter.push("ld") == [TextPiece("ld")]
    splitter = ToolCallSplitter(TOOLS)
    assert splitter.push('{"ans') == [TextPiece('{"ans')]
    assert splitter.push('wer": 42') == [TextPiece('wer": 42')]


def test_lone_surrogates_in_arguments_stay_escaped() -> None:
    call = ToolCallPiece("get_weather", '{"a": "\\ud800"}')
    assert split(['{"name": "get_weather", "parameters": {"a": "\\ud800"}}']) == [call]


def test_deep_nesting_is_text() -> None:
    text = '{"name": "noop", "parameters": {"a": ' + "[" * 100_000
    assert split([text]) == [TextPiece(text)]


@pytest.mark.parametrize(
    "unit", ["\n", " ", "{", "{\n", "a", '{"name": "noop", "parameters": {"a": "', "[", "<function=noop>", ";"]
)
def test_long_outputs_are_split_in_good_time(unit: str) -> None:
    started = time.process_time()
    splitter = ToolCallSplitter(TOOLS)
    for _ in range(8_000):
        splitter.push(unit)
    splitter.finish()
    assert time.process_time() - started < 3


def test_the_tag_reaches_the_splitter_as_a_token_and_not_as_text(llama3: Tokenizer) -> None:
    tag = llama3.control[PYTHON_TAG].id
    assert shown_ids(llama3) == {tag}
    detokenizer = Detokenizer(llama3, shown=shown_ids(llama3))
    ids = [tag, *llama3.encode('brave_search.call(query="x")'), llama3.control["<|eom_id|>"].id]
    assert split([detokenizer.push([i]) for i in ids]) == [ToolCallPiece("brave_search", '{"query": "x"}')]
