"""Go's text/template language, as Ollama's models use it, interpreted within bounds.

A package of its own because it is a language: text in, syntax tree, values in, text out. What a conversation looks like
to a template is told in `ollama_values` beside it. Nothing here knows models, files or HTTP, and nothing runs outside
this process: every loop, recursion and string that a template can write is counted (`budget`).
Source: the documentation of Go 1.27's packages text/template and fmt; `tests/text/gotemplate` compares with Go itself.
"""

from __future__ import annotations

from .budget import Budget, Limits
from .evaluator import render
from .parser import TemplateSet, parse

__all__ = ["Budget", "Limits", "TemplateSet", "parse", "render"]
