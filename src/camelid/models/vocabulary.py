"""Vocabularies as the plain lists that GGUF stores: read from Meta's tokenizer.model or a tokenizer.json, or made up.

Only what writing a file needs: nothing is tokenized here, and no file of a tokenizer is trusted beyond its lists. In
them a byte-level token is spelled as GPT-2 spells it, one printable character per byte.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

from camelid.errors import ModelError, NotFound

NORMAL, CONTROL = 1, 3  # GGUF's token types

# The first special tokens of Llama 3.1 and 3.2, as Meta's llama-models numbers them; reserved ones fill up to 256.
LLAMA3_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
)
NUM_SPECIAL = 256
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE vocabulary. `merges` are pairs of tokens joined by a space, the first to apply first."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    bos_id: int
    eos_id: int

    def metadata(self) -> dict[str, Any]:
        """Return GGUF's `tokenizer.*` keys. Text is cut before merging as in Llama 3."""
        return {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "llama-bpe",
            "tokenizer.ggml.tokens": self.tokens,
            "tokenizer.ggml.token_type": self.types,
            "tokenizer.ggml.merges": self.merges,
            "tokenizer.ggml.bos_token_id": self.bos_id,
            "tokenizer.ggml.eos_token_id": self.eos_id,
            "tokenizer.chat_template": CHAT_TEMPLATE,
        }


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary of a Llama 3 tokenizer: Meta's tokenizer.model or a tokenizer.json. Raises NotFound,
    ModelError.
    """
    try:
        content = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, error) from error
    try:
        return _from_json(json.loads(content)) if content.lstrip().startswith("{") else _from_ranks(content)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise _unusable(path, error) from error


def made_up_vocabulary(size: int) -> Vocabulary:
    """Return a working vocabulary of `size` tokens, at least 512: all bytes, then two and three printable ones, then
    Llama 3's special tokens.
    """
    printable = [bytes([code]) for code in (*range(0x20, 0x7F), 0x0A)]
    ranks = {bytes([code]): code for code in range(256)}
    longer = (b"".join(parts) for length in (2, 3) for parts in product(printable, repeat=length))
    for token in islice(longer, size - NUM_SPECIAL - len(ranks)):
        ranks[token] = len(ranks)
    return _with_llama3_special(ranks)


def spell(token: bytes) -> str:
    """Return a token as GPT-2 spells it. Source: Radford et al. 2019, `bytes_to_unicode`."""
    return "".join(map(_SPELLING.__getitem__, token))


def merges_of(ranks: Mapping[bytes, int]) -> Iterator[str]:
    """Yield the merges that build every token out of two others, those of lower-ranked tokens first.

    tiktoken joins the neighbours whose joint rank is lowest; a list of merges in this order makes the same choices.
    """
    for token in sorted(ranks, key=ranks.__getitem__):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [(left, right) for left, right in pairs if left in ranks and right in ranks]
        for left, right in sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]])):
            yield f"{spell(left)} {spell(right)}"


def _from_ranks(content: str) -> Vocabulary:
    """Read tiktoken's format: a line per token, its bytes in base64 and its rank."""
    pairs = (line.split() for line in content.splitlines() if line.strip())
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError("the ranks are not 0, 1, 2 …")
    return _with_llama3_special(ranks)


def _with_llama3_special(ranks: Mapping[bytes, int]) -> Vocabulary:
    normal = [spell(token) for token in sorted(ranks, key=ranks.__getitem__)]
    reserved = (f"<|reserved_special_token_{2 + index}|>" for index in range(NUM_SPECIAL - len(LLAMA3_SPECIAL)))
    return Vocabulary(
        tokens=(*normal, *LLAMA3_SPECIAL, *reserved),
        types=(NORMAL,) * len(normal) + (CONTROL,) * NUM_SPECIAL,
        merges=tuple(merges_of(ranks)),
        bos_id=len(normal) + LLAMA3_SPECIAL.index("<|begin_of_text|>"),
        eos_id=len(normal) + LLAMA3_SPECIAL.index("<|eot_id|>"),
    )


def _from_json(content: Mapping[str, Any]) -> Vocabulary:
    """Read the format of the `tokenizers` library, for a BPE with Llama 3's special tokens."""
    ids: dict[str, int] = dict(content["model"]["vocab"])
    added = {token["content"]: int(token["id"]) for token in content["added_tokens"]}
    ids |= added
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError("the ids are not 0, 1, 2 …")
    tokens = tuple(sorted(ids, key=ids.__getitem__))
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"])
    return Vocabulary(
        tokens=tokens,
        types=tuple(CONTROL if token in added else NORMAL for token in tokens),
        merges=tuple(merges),
        bos_id=ids["<|begin_of_text|>"],
        eos_id=ids["<|eot_id|>"],
    )


def _unusable(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path} is no vocabulary that can be used here: {error!r:.200}",
        hint="give Meta's tokenizer.model of Llama 3, or a tokenizer.json with its special tokens",
    )


def _spelling() -> list[str]:
    """Return the character of each byte: itself where it is printable in Latin-1, else the next free one from U+0100
    on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    free = iter(range(0x100, 0x200))
    return [chr(code) if code in printable else chr(next(free)) for code in range(256)]


_SPELLING = tuple(_spelling())
