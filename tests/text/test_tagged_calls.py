"""Calls behind a tag of their own: found however the answer is cut, and text where they are none."""

# ruff: noqa: E501 - a template, or an answer, in one line is easier to compare

from __future__ import annotations

import random

import pytest

from camelid.text.toolcalls import Piece, TaggedCallSplitter, TextPiece, ToolCallPiece

TOOLS = ("get_weather", "get")
OSLO = ToolCallPiece("get_weather", '{"city": "Oslo"}')


def split(tag: str, text: str, cuts: random.Random | None = None) -> list[Piece]:
    """Return the pieces of a text that comes as a whole or cut anywhere; texts that follow each other joined."""
    splitter = TaggedCallSplitter(tag, TOOLS)
    pieces: list[Piece] = []
    while text:
        length = len(text) if cuts is None else cuts.randint(1, 6)
        pieces += splitter.push(text[:length])
        text = text[length:]
    joined: list[Piece] = []
    for piece in [*pieces, *splitter.finish()]:
        if joined and isinstance(piece, TextPiece) and isinstance(joined[-1], TextPiece):
            joined[-1] = TextPiece(joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return joined


CALL = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
CASES = [
    ("<tool_call>", f"<tool_call>\n{CALL}\n</tool_call>", [OSLO]),
    ("<tool_call>", f"Let me see.\n<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}", [TextPiece("Let me see."), OSLO, OSLO]),
    ("<tool_call>", "It is 3 < 4 <tool", [TextPiece("It is 3 < 4 <tool")]),
    ("<tool_call>", "<tool_call> nothing { at all", [TextPiece("<tool_call> nothing { at all")]),
    ("<tool_call>", '<tool_call>{"name": "other", "arguments": {}}', [TextPiece('<tool_call>{"name": "other", "arguments": {}}')]),
    ("[TOOL_CALLS]", f"[TOOL_CALLS] [{CALL}, {CALL}]", [OSLO, OSLO]),
    ("[TOOL_CALLS]", '[TOOL_CALLS]get_weather{"city": "Oslo"}', [OSLO]),
    ("[TOOL_CALLS]", '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}', [OSLO]),
    ("<function", '<function=get_weather>{"city": "Oslo"}</function>', [OSLO]),
    ("<c>", '<c>{"function": {"name": "get_weather", "parameters": {"city": "Oslo"}}}', [OSLO]),
    ("<c>", '<c>{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}', [OSLO]),
    ("<c>", '<c>{"name": "get", "arguments": {"q": "get_weather {\\"}"}}', [ToolCallPiece("get", '{"q": "get_weather {\\"}"}')]),
    ("[", f"[{CALL}]", [OSLO]),
    ("[", f"  [{CALL}]", [TextPiece("  "), OSLO]),
    ("[", "A list: [1, 2]", [TextPiece("A list: [1, 2]")]),
    ("[", "[1, 2] and more", [TextPiece("[1, 2] and more")]),
]  # fmt: skip


@pytest.mark.parametrize(("tag", "text", "pieces"), CASES)
def test_calls_are_found_behind_their_tag_however_the_answer_is_cut(tag: str, text: str, pieces: list[Piece]) -> None:
    blank = [piece for piece in split(tag, text) if piece != TextPiece("  ")]
    assert blank == [piece for piece in pieces if piece != TextPiece("  ")]
    for seed in range(20):
        cut = [piece for piece in split(tag, text, random.Random(seed)) if piece != TextPiece("  ")]
        assert cut == blank


def test_text_before_the_tag_is_not_kept_waiting() -> None:
    splitter = TaggedCallSplitter("<tool_call>", TOOLS)
    assert splitter.push("Some words <to") == [TextPiece("Some words")]
    assert splitter.push("ol belt") == [TextPiece(" <tool belt")]


def test_a_list_that_calls_nothing_is_text_as_soon_as_it_ends() -> None:
    splitter = TaggedCallSplitter("[", TOOLS)
    assert splitter.push('[{"a": 1}') == []
    assert splitter.push("] fine") == [TextPiece('[{"a": 1}] fine')]
