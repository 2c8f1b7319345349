"""Writes a tokenizer as other programs keep it: a tokenizer.json for the `tokenizers` library, or Meta's ranks.

The other direction of the `from_*` modules. What is written gives the same ids for the same text.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from .tokenizer import Spelling, Tokenizer

NUM_SPECIAL = 256  # control tokens of a Llama 3 vocabulary, which Meta's reader adds by itself

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_SENTENCE_PIECE = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """Return the tokenizer.json of a tokenizer."""
    state: dict[str, Any] = json.loads(tokenizer.core.to_str())
    known = {entry["id"]: entry for entry in state["added_tokens"]}
    for token in tokenizer.control.values():
        state["model"]["vocab"].setdefault(token.spelling, token.id)
        known[token.id] = {
            "id": token.id,
            "content": token.spelling,
            "single_word": False,
            "lstrip": token.strips_left,
            "rstrip": token.strips_right,
            "normalized": False,
            "special": True,
        }
    state["added_tokens"] = [known[index] for index in sorted(known)]
    state["post_processor"] = _first_token(tokenizer) if tokenizer.ends.adds_bos else None
    if state.get("decoder") is None:
        is_byte_level = tokenizer.spelling is Spelling.BYTE_LEVEL
        state["decoder"] = _BYTE_LEVEL if is_byte_level else _SENTENCE_PIECE
    return json.dumps(state, ensure_ascii=False).encode()


def tokenizer_config(tokenizer: Tokenizer, chat_template: str | None) -> bytes:
    """Return the tokenizer_config.json that belongs to it."""
    values = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.spelling_of(tokenizer.bos_id) or None,
        "eos_token": tokenizer.spelling_of(tokenizer.ends.eos_id) or None,
        "clean_up_tokenization_spaces": False,
        "chat_template": chat_template,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return json.dumps(given, ensure_ascii=False, indent=2).encode()


def generation_config(tokenizer: Tokenizer) -> bytes:
    """Return the generation_config.json that belongs to it: the ids that begin and end."""
    values = {"bos_token_id": tokenizer.bos_id, "eos_token_id": sorted(tokenizer.eos_ids)}
    return json.dumps({name: value for name, value in values.items() if value is not None}, indent=2).encode()


def meta_ranks(tokenizer: Tokenizer) -> bytes | None:
    """Return Meta's tokenizer.model, None for a tokenizer that is not of Llama 3's kind."""
    num_normal = tokenizer.vocab_size - NUM_SPECIAL
    control = {token.id for token in tokenizer.control.values()}
    if tokenizer.spelling is not Spelling.BYTE_LEVEL or control != set(range(num_normal, tokenizer.vocab_size)):
        return None
    if tokenizer.bos_id != num_normal:
        return None
    tokens = (base64.b64encode(tokenizer.token_bytes(index)).decode() for index in range(num_normal))
    return "".join(f"{token} {rank}\n" for rank, token in enumerate(tokens)).encode()


def _first_token(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the rule that puts the first token in front of a text."""
    first = tokenizer.spelling_of(tokenizer.bos_id)
    one = [{"SpecialToken": {"id": first, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    other = [{"SpecialToken": {"id": first, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    ids = {first: {"id": first, "ids": [tokenizer.bos_id], "tokens": [first]}}
    return {"type": "TemplateProcessing", "single": one, "pair": one + other, "special_tokens": ids}
