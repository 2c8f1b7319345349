"""OpenAI's routes in the OpenAPI document."""

from __future__ import annotations

from ..bounds import BOUNDS
from ..described import Describer, Rules
from ..sse import MEDIA_TYPE
from . import requests, tokens
from .responses import requests as responses
from .shapes import ErrorReply

OPENAI = Describer(
    "",
    ErrorReply,
    MEDIA_TYPE,
    Rules(
        BOUNDS,
        {*requests.REFUSED, *responses.REFUSED, *tokens.REFUSED},
        {**requests.NEUTRAL, **responses.NEUTRAL},
    ),
)
