"""Which dialect words an error: the one whose path was asked."""

from __future__ import annotations

from .anthropic.replies import error_body as anthropic_error
from .errors import Envelope
from .ollama.replies import error_body as ollama_error
from .openai.replies import error_body as openai_error


def envelope_of(path: str) -> Envelope:
    """Return the envelope of errors at `path`."""
    if path.startswith("/v1/messages"):
        return anthropic_error
    return ollama_error if path.startswith("/api/") else openai_error
