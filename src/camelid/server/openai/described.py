"""OpenAI's routes in the OpenAPI document."""

from __future__ import annotations

from ..described import Describer
from ..sse import MEDIA_TYPE
from .shapes import ErrorReply

OPENAI = Describer("", ErrorReply, MEDIA_TYPE)
