"""What a model says, told from the tools that it calls, while the text arrives.

Read are the three forms that Llama 3.1 was trained with: JSON objects, built-in calls after `<|python_tag|>`, and
`<function=name>{…}</function>`; for models whose template writes calls with a tag of its own, that tag (`tagged`). Used
only when a request gave tools.
"""

from __future__ import annotations

from .pieces import Piece, TextPiece, ToolCallPiece
from .splitter import PYTHON_TAG, ToolCallSplitter, shown_ids
from .tagged import TaggedCallSplitter

__all__ = ["PYTHON_TAG", "Piece", "TaggedCallSplitter", "TextPiece", "ToolCallPiece", "ToolCallSplitter", "shown_ids"]
