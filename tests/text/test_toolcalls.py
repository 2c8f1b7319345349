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
    "no arguments": ('{"name": "noop"}', [NOOP]),
    "null for arguments": ('{"type": "function", "name": "noop", "parameters": null}', [NOOP]),
    # what the reference parser of these forms gets wrong
    "apostrophes in arguments": (
        """{"name": "get_weather", "parameters": {"city": "L'Aquila", "say": "it's \\"it\\""}}""",
        [weather(city="L'Aquila", say='it\'s "it"')],
    ),
    "apostrophes in a function tag": (
        """<function=get_weather>{"city": "L'Aquila"}</function>""",
        [weather(city="L'Aquila")],
    ),
    "objects in a function tag": (
        '<function=get_weather>{"at": {"city": {"name": "Bern"}}, "days": [{"n": 1}]}</function>',
        [weather(at={"city": {"name": "Bern"}}, days=[{"n": 1}])],
    ),
    "values of a built-in": (
        PYTHON_TAG + """brave_search.call(query="it's", near={'city': 'Bern', "at": (1, -2.5)}, kinds=['a', True])""",
        [
            ToolCallPiece(
                "brave_search",
                '{"query": "it\'s", "near": {"city": "Bern", "at": [1, -2.5]}, "kinds": ["a", true]}',
            )
        ],
    ),
    # lists, as Python writes them and as JSON
    "a list of a call": ('[get_weather(city="Bern")]', [weather(city="Bern")]),
    "a list of calls": (
        """[get_weather(a='L"A', days=[1, 2], deep={"a": {"b": None}}), noop(), get_weather(city="it's (a) ]")]""",
        [weather(a='L"A', days=[1, 2], deep={"a": {"b": None}}), NOOP, weather(city="it's (a) ]")],
    ),
    "a list over several lines": (
        '[\n  noop(),\n  get_weather(\n    city="Bern",\n  ),\n]\n',
        [NOOP, weather(city="Bern")],
    ),
    "a list behind the tag": (PYTHON_TAG + "[noop()]", [NOOP]),
    "text before a list": ("So:\n[noop()]", [TextPiece("So:"), NOOP]),
    "escapes in a list": ('[get_weather(city="a\\n\\u00fc\\x41\\"")]', [weather(city='a\nüA"')]),
    "a list of objects": (f"[{CALL}, {CALL}]", [NOOP, NOOP]),
    "a list of one object over lines": ('[\n{"name": "get_weather", "parameters": {"a": [1]}}\n]', [weather(a=[1])]),
    # no calls
    "a list with another function": only_text("[noop(), other()]"),
    "a list with a position": only_text("[get_weather('Bern')]"),
    "a list with a value": only_text("[noop(), 1]"),
    "a list that is called": only_text("[noop(a=noop())]"),
    "a list of a comparison": only_text("[noop(a==1)]"),
    "a list without its end": only_text('[get_weather(city="Bern"'),
    "a list of words": only_text("[noop, get_weather]"),
    "a list of answers": only_text('[{"name": "Bob"}, {"name": "noop"}]'),
    "a list of calls and answers": only_text(f'[{CALL}, {{"name": "Bob"}}]'),
    "a list in a line": only_text("Use [noop()]"),
    "an empty list": only_text("[]"),
    "plain text": ("Hello <b>|</b> {x} \n", [TextPiece("Hello <b>|</b> {x} \n")]),
    "a json answer": only_text('{"answer": {"name": "noop"}}'),
    "another name": only_text('{"name": "Bob", "parameters": {}}'),
    "arguments of another name": only_text('{"name": "noop", "values": {}}'),
    "arguments that are a number": only_text('{"name": "noop", "parameters": 3}'),
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
    "[noop(",
    "get_weather(a=1)",
    ")",
    "]",
    "'",
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
@given(st.text('{}":;, \n<|>/=abfunctio[]()', max_size=60))
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
    splitter = ToolCallSplitter(TOOLS)
    assert splitter.push("[x") == [TextPiece("[x")]
    splitter = ToolCallSplitter(TOOLS)
    assert splitter.push('[{"ans') == [TextPiece('[{"ans')]


@pytest.mark.parametrize("text", ["[noop()]", '{"name": "noop"}', f"[{CALL}]"])
def test_where_a_grammar_holds_calls_to_one_form_other_forms_are_answers(text: str) -> None:
    splitter = ToolCallSplitter(TOOLS, has_grammar=True)
    pieces = [*splitter.push(text), *splitter.finish()]
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == text
    splitter = ToolCallSplitter(TOOLS, has_grammar=True)
    assert splitter.push(CALL) == [NOOP]


def test_a_list_of_calls_comes_when_it_is_complete() -> None:
    splitter = ToolCallSplitter(TOOLS)
    assert splitter.push("[noop(), get_wea") == []
    assert splitter.push('ther(city="Bern")') == []
    assert splitter.push("]") == [NOOP, weather(city="Bern")]


def test_lone_surrogates_in_arguments_stay_escaped() -> None:
    call = ToolCallPiece("get_weather", '{"a": "\\ud800"}')
    assert split(['{"name": "get_weather", "parameters": {"a": "\\ud800"}}']) == [call]


def test_deep_nesting_is_text() -> None:
    text = '{"name": "noop", "parameters": {"a": ' + "[" * 100_000
    assert split([text]) == [TextPiece(text)]


@pytest.mark.parametrize(
    "unit",
    [
        "\n",
        " ",
        "{",
        "{\n",
        "a",
        '{"name": "noop", "parameters": {"a": "',
        "[",
        "[\n",
        "[noop(",
        '[noop(a="',
        "<function=noop>",
        ";",
    ],
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
