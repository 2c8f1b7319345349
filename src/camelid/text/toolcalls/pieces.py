"""What an answer is split into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextPiece:
    """A piece of what the model says."""

    text: str


@dataclass(frozen=True)
class ToolCallPiece:
    """A complete call. `arguments` is JSON text of an object."""

    name: str
    arguments: str


Piece = TextPiece | ToolCallPiece
