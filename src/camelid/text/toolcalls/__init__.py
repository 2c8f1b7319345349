"""What a model says, told from the tools that it calls, while the text arrives.

Read are the three forms that Llama 3.1 was trained with: JSON objects, built-in calls after `<|python_tag|>`, and
`<function=name>{…}</function>`. Used only when a request gave tools.
"""

from __future__ import annotations

from .splitter import PYTHON_TAG, TextPiece, ToolCallPiece, ToolCallSplitter, shown_ids

__all__ = ["PYTHON_TAG", "TextPiece", "ToolCallPiece", "ToolCallSplitter", "shown_ids"]
