"""POST /tokenize and /detokenize, as vLLM's server has them beside OpenAI's routes: bodies, reading, replies.

Apart from the rest of the dialect because nothing is generated. Source: vLLM's protocol, `TokenizeCompletionRequest`,
`TokenizeChatRequest` and `DetokenizeRequest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from camelid.errors import InvalidRequest
from camelid.types import ChatRequest, Tokens

from ..limits import Limits
from .bodies import ChatBody, Message, Refused, Tool
from .refusals import refuse_fields
from .requests import to_chat_request

# Fields that cannot be honoured at all, with what to do instead where there is something.
REFUSED: Mapping[str, str | None] = {
    "chat_template": "the model's own template is used",
    "chat_template_kwargs": None,
    "mm_processor_kwargs": None,
}
_OF_TEXT, _OF_CHAT = ("add_special_tokens",), ("add_generation_prompt", "tools", "continue_final_message")


class TokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /tokenize: `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    return_token_strs: bool | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    tools: list[Tool] | None = None
    continue_final_message: bool | None = None
    chat_template: Refused = None
    chat_template_kwargs: Refused = None
    mm_processor_kwargs: Refused = None


class DetokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /detokenize."""

    tokens: list[int]
    model: str | None = None


def check(body: TokenizeBody) -> None:
    """Raise InvalidRequest unless the body names one text, or one conversation, and only what goes with it."""
    refuse_fields(body, REFUSED, {})
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("one of prompt and messages is required, and only one", field="prompt")
    own, other = ("prompt", _OF_CHAT) if body.messages is None else ("messages", _OF_TEXT)
    for name in other:
        if getattr(body, name) is not None:
            raise InvalidRequest(f"{name} does not go with {own}", field=name)


def to_conversation(body: TokenizeBody, model: str, limits: Limits) -> ChatRequest:
    """Return the conversation of `body`. Raises InvalidRequest naming the field."""
    continues = bool(body.continue_final_message)
    chat = ChatBody(
        messages=body.messages or [],
        tools=body.tools,
        continue_final_message=continues,
        add_generation_prompt=body.add_generation_prompt if continues else None,  # without an answer both are fine
    )
    return to_chat_request(chat, model, 0, limits)


def tokens_reply(body: TokenizeBody, tokens: Tokens) -> dict[str, Any]:
    """Return the reply to /tokenize."""
    pieces = [piece.decode("utf-8", "replace") for piece in tokens.pieces]
    return {
        "count": len(tokens.ids),
        "max_model_len": tokens.context_length,
        "tokens": list(tokens.ids),
        "token_strs": pieces if body.return_token_strs else None,
    }
