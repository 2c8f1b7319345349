"""Go template source to tokens. Text outside `{{` and `}}` is one token; inside, words, literals and signs.

Separate from the parser because the trimming of white space and the rules of what may stand beside what are its own.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from .failure import failure

_KEYWORDS = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "range", "template", "with", "nil", "true", "false")
)
_SPACES = " \t\r\n"
_TRIMS_LEFT = re.compile(r"-[ \t\r\n]")
_CLOSING = re.compile(r"(?P<trim>[ \t\r\n]-)?\}\}")
_COMMENT = re.compile(r"(?:-[ \t\r\n])?/\*")
_NUMBER = (
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?|0[oO][0-7_]*|0[bB][01_]*"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+?(?=[ \t\r\n]-\}\}|[^ \t\r\n]|\Z))"
    r"|(?P<declare>:=)|(?P<assign>=)|(?P<pipe>\|)|(?P<left>\()|(?P<right>\))"
    r'|(?P<string>"(?:\\[^\n]|[^\\"\n])*")|(?P<raw>`[^`]*`)'
    r"|(?P<character>'(?:\\[^\n]|[^\\'\n])*')"
    r"|(?P<variable>\$\w*)|(?P<field>\.(?![0-9])\w+)|(?P<dot>\.(?![0-9]))"
    rf"|(?P<number>(?=[+.0-9-]){_NUMBER})|(?P<word>\w+)|(?P<sign>[!-~])"
)
# What may follow a name: Go keeps arithmetic that it does not have from being mistaken for one.
_AFTER_NAME = re.compile(r"[ \t\r\n.,|:()]|\}\}|\Z")
_OPENERS = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}


class Kind(Enum):
    """What a token is. The values are the names of the groups above."""

    TEXT = "text"
    OPEN = "open"
    CLOSE = "close"
    SPACE = "space"
    DECLARE = "declare"
    ASSIGN = "assign"
    PIPE = "pipe"
    LEFT = "left"
    RIGHT = "right"
    STRING = "string"
    RAW = "raw"
    CHARACTER = "character"
    VARIABLE = "variable"
    FIELD = "field"
    DOT = "dot"
    NUMBER = "number"
    WORD = "word"
    KEYWORD = "keyword"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, with its text as written and the line that it begins on."""

    kind: Kind
    text: str
    line: int


class _Source:
    """The text, and where its lines begin."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def line(self, at: int) -> int:
        return bisect_right(self._starts, at)


def tokenize(text: str) -> Iterator[Token]:
    """Yield the tokens of a template, END last. Raises TemplateError at what is none."""
    source = _Source(text)
    at = 0
    trims = False  # white space after a closing with a trim marker
    while at < len(text):
        opening = text.find("{{", at)
        end = len(text) if opening < 0 else opening
        literal = text[at:end].lstrip(_SPACES) if trims else text[at:end]
        if opening >= 0 and _TRIMS_LEFT.match(text, opening + 2):
            literal = literal.rstrip(_SPACES)
        if literal:
            yield Token(Kind.TEXT, literal, source.line(at))
        if opening < 0:
            break
        if _COMMENT.match(text, opening + 2):
            at, trims = _pass_comment(source, opening)
        else:
            yield Token(Kind.OPEN, "{{", source.line(opening))
            start = opening + 2
            at = start + (2 if _TRIMS_LEFT.match(text, start) else 0)
            for token, end in _action(source, at):
                yield token
                at, trims = end, token.text.startswith(tuple(_SPACES))  # of the last one, the closing
    yield Token(Kind.END, "", source.line(len(text)))


def _pass_comment(source: _Source, opening: int) -> tuple[int, bool]:
    """Return where a comment's action ends, and whether it trims what follows."""
    line = source.line(opening)
    start = source.text.index("/*", opening)
    end = source.text.find("*/", start + 2)
    if end < 0:
        raise failure(line, "a comment is never closed")
    closing = _CLOSING.match(source.text, end + 2)
    if closing is None:
        raise failure(line, "a comment must be all that stands between {{ and }}")
    return closing.end(), closing["trim"] is not None


def _action(source: _Source, at: int) -> Iterator[tuple[Token, int]]:
    """Yield the tokens of one action, the closing one last, each with the position after it."""
    text, depth = source.text, 0
    while True:
        line = source.line(at)
        closing = _CLOSING.match(text, at)
        if closing is not None:
            if depth:
                raise failure(line, "a left parenthesis is never closed")
            yield Token(Kind.CLOSE, closing.group(), line), closing.end()
            return
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None or not found.group():
            raise _no_token(source, at)
        token = _checked(found, source, line)
        depth += (token.kind is Kind.LEFT) - (token.kind is Kind.RIGHT)
        if depth < 0:
            raise failure(line, "unexpected right parenthesis")
        at = found.end()
        yield token, at


def _checked(found: re.Match[str], source: _Source, line: int) -> Token:
    """Return the token that was found. Raises TemplateError where it is not ended as it must be."""
    kind, word = Kind(found.lastgroup), found.group()
    following = source.text[found.end() : found.end() + 1]
    if kind is Kind.SIGN and word in _OPENERS:
        raise failure(line, f"a {_OPENERS[word]} is never closed")
    if kind is Kind.SIGN and word == ":":
        raise failure(line, "expected :=")
    if kind is Kind.NUMBER and (following.isalnum() or following in ("_", "+", "-")) and following:
        raise failure(line, f"{(word + following)[:40]!r} is no number")
    if kind in (Kind.WORD, Kind.FIELD, Kind.VARIABLE) and not _AFTER_NAME.match(source.text, found.end()):
        raise failure(line, f"bad character {following!r} after {word[:40]!r}")
    if kind is Kind.WORD and word in _KEYWORDS:
        kind = Kind.KEYWORD
    return Token(kind, word, line)


def _no_token(source: _Source, at: int) -> Exception:
    if at >= len(source.text):
        return failure(source.line(at), "an action is never closed with }}")
    return failure(source.line(at), f"unrecognized character {source.text[at]!r} in an action")
