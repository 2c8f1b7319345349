"""The routes of vLLM beside OpenAI's own: texts to tokens and back."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ..decode import decode, read_body
from ..door import Door
from .described import OPENAI
from .shapes import TextOfTokens, TokensReply
from .tokens import DetokenizeBody, TokenizeBody, check, to_conversation, tokens_reply

_TOKENIZE = msgspec.json.Decoder(TokenizeBody)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeBody)
BODIES = (TokenizeBody, DetokenizeBody)


class TokenRoutes:
    """The handlers, over one door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["openai"])
        OPENAI.add(routes, "POST", "/tokenize", self.tokenize, body=TokenizeBody, reply=TokensReply)
        OPENAI.add(routes, "POST", "/detokenize", self.detokenize, body=DetokenizeBody, reply=TextOfTokens)
        return routes

    async def tokenize(self, request: Request) -> Response:
        """Return the tokens of a text, or of the prompt that a conversation makes."""
        door = self._door
        body = decode(await read_body(request, door.limits), _TOKENIZE)
        check(body)
        model = await door.ready(body.model)
        if body.prompt is not None:
            with_bos = body.add_special_tokens is not False
            tokens = await door.runtime.tokenize(model, body.prompt, with_bos=with_bos)
        else:
            ask, begins = to_conversation(body, model, door.limits), body.add_generation_prompt is not False
            tokens = await door.runtime.tokenize_chat(ask, add_generation_prompt=begins)
        return JSONResponse(tokens_reply(body, tokens))

    async def detokenize(self, request: Request) -> Response:
        """Return the text of tokens."""
        door = self._door
        body = decode(await read_body(request, door.limits), _DETOKENIZE)
        text = await door.runtime.detokenize(await door.ready(body.model), body.tokens)
        return JSONResponse({"prompt": text})
