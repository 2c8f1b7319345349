"""Strings to token ids and back: tokenizers, chat templates, stop strings, tool calls.

A room of its own because text is all it knows: no models, no engine, no HTTP, and torch is never imported here.
"""

from __future__ import annotations

from .from_gguf import from_gguf
from .from_json import from_tokenizer_json
from .from_meta import from_meta
from .prompt import Prompt
from .tokenizer import Tokenizer

__all__ = ["Prompt", "Tokenizer", "from_gguf", "from_meta", "from_tokenizer_json"]
