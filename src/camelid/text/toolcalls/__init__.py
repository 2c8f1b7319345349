"""What a model says, told from the tools that it calls, while the text arrives.

Read are the forms that Llama 3.1 and 3.2 were trained with: JSON objects (alone or in a list), built-in calls after
`<|python_tag|>`, `<function=name>{…}</function>`, and lists of calls as Python writes them; for models whose template
writes calls with a tag of its own, that tag (`tagged`). Used only when a request gave tools.
"""

from __future__ import annotations

from .pieces import Piece, TextPiece, ToolCallPiece
from .splitter import PYTHON_TAG, ToolCallSplitter, shown_ids
from .tagged import TaggedCallSplitter

__all__ = ["PYTHON_TAG", "Piece", "TaggedCallSplitter", "TextPiece", "ToolCallPiece", "ToolCallSplitter", "shown_ids"]
