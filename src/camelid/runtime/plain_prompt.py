"""The prompt of a plain completion: text or ids to ids, what is to be filled in, and the prompt given back.

Apart from the turn because a chat has none of it. It knows no engine but the token that brings a prompt's scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from camelid.engine.request import Token
from camelid.errors import InvalidRequest
from camelid.text.detokenize import Detokenizer
from camelid.text.go_template import GoTemplate
from camelid.text.infill import find_infill
from camelid.text.templates import ChatTemplate
from camelid.text.tokenizer import Tokenizer
from camelid.types import CompletionRequest, Echo, TokenScore


def encode_plain(tokenizer: Tokenizer, template: ChatTemplate, request: CompletionRequest) -> list[int]:
    """Return the ids of a completion's prompt. Raises InvalidRequest where it is to fill in and the model cannot.

    What is to be filled in is said as the template says it, or else with the vocabulary's tokens for it.

    A prompt of text is all the caller's own, so a control token that is spelled out in it is a control token.
    """
    if request.suffix is not None:
        return _around(tokenizer, template, request, request.suffix)
    if not isinstance(request.prompt, str):
        return list(request.prompt)
    ids = tokenizer.encode(request.prompt, parse_special=True, with_bos=True)
    return [tokenizer.bos_id] if not ids and tokenizer.bos_id is not None else ids


def text_of(tokenizer: Tokenizer, ids: Sequence[int], *, shows_control: bool = True) -> str:
    """Return the text of ids from outside, control tokens spelled out or left out.

    Raises InvalidRequest for ids that are none.
    """
    check_ids(tokenizer, ids, "tokens")
    decoder = Detokenizer(tokenizer, shown=tokenizer.control_ids if shows_control else frozenset())
    return decoder.push(ids) + decoder.flush()


def check_ids(tokenizer: Tokenizer, ids: Sequence[int], name: str) -> None:
    """Raise InvalidRequest for the first of ids from outside that is none; `name` is the field that they came in."""
    for index, token_id in enumerate(ids):
        if not 0 <= token_id < tokenizer.vocab_size:
            field = f"{name}[{index}]"
            raise InvalidRequest(f"{field} must be 0–{tokenizer.vocab_size - 1}, got {token_id}", field=field)


def echo(tokenizer: Tokenizer, request: CompletionRequest, ids: list[int], token: Token) -> Echo:
    """Return the prompt as text, with the scores of its tokens that came with the first token of the answer."""
    start = 0
    if isinstance(request.prompt, str):
        start = len(ids) - len(tokenizer.encode(request.prompt, parse_special=True))  # what was put in front
        text = request.prompt
    else:
        text = text_of(tokenizer, ids)
    scores = tuple(
        TokenScore(
            token_id,
            tokenizer.token_bytes(token_id),
            score.logprob,
            tuple(TokenScore(other, tokenizer.token_bytes(other), logprob) for other, logprob in score.top),
        )
        for token_id, score in zip(ids[1:], token.prompt_scores, strict=False)
    )
    first = None if start or not request.generation.gives_scores else tokenizer.token_bytes(ids[0])
    return Echo(text, first, scores)


def _around(tokenizer: Tokenizer, template: ChatTemplate, request: CompletionRequest, suffix: str) -> list[int]:
    if not isinstance(request.prompt, str):
        raise InvalidRequest("suffix needs a prompt that is text", field="suffix")
    if isinstance(template, GoTemplate):
        return tokenizer.encode_prompt(template.render_insert(request.prompt, suffix))
    infill = find_infill(tokenizer)
    if infill is None:
        raise InvalidRequest(
            f"suffix is not supported: {request.model} was not trained to fill in",
            field="suffix",
            hint="use a model with tokens for it, such as Code Llama",
        )
    return infill.encode(tokenizer, request.prompt, suffix)
