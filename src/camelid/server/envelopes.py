"""Which dialect words an error: the one whose path was asked, or whose client asked."""

from __future__ import annotations

from starlette.types import Scope

from .anthropic.models import is_anthropics
from .anthropic.replies import error_body as anthropic_error
from .docker.aliases import is_dockers
from .docker.routes import ENVELOPE as DOCKERS
from .errors import Envelope
from .ollama.replies import error_body as ollama_error
from .openai.replies import error_body as openai_error
from .predict.replies import ENVELOPE as PREDICTS
from .predict.routes import is_predicts


def envelope_of(scope: Scope) -> Envelope:
    """Return the envelope of errors of a request."""
    path = scope["path"]
    if is_predicts(path):
        return PREDICTS
    if is_dockers(path):
        return DOCKERS
    if path.startswith("/v1/messages") or (path.startswith("/v1/models") and is_anthropics(scope)):
        return anthropic_error
    return ollama_error if path.startswith("/api/") else openai_error
