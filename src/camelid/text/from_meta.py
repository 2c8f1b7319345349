"""Builds a tokenizer from Meta's `tokenizer.model` of the Llama 3 family: lines of a base64 token and its rank.

Separate because the file has neither merges nor special tokens: both follow from Meta's reference code (llama-models,
models/llama3/tokenizer.py).
"""

from __future__ import annotations

from binascii import Error, a2b_base64
from itertools import pairwise
from pathlib import Path

from camelid.errors import BadVocabulary, UnsupportedModel

from .bytelevel import ALPHABET
from .merges import cuts_of
from .pretokenizers import pre_tokenizer
from .tokenizer import ControlToken, Ends, Spelling, Tokenizer

NUM_SPECIAL = 256
_NAMED = (
    "begin_of_text",
    "end_of_text",
    "reserved_special_token_0",
    "reserved_special_token_1",
    "finetune_right_pad_id",
    "step_id",
    "start_header_id",
    "end_header_id",
    "eom_id",
    "eot_id",
    "python_tag",
    "image",
)
_ENDS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
_MAX_SIZE = 64 * 2**20  # Meta's file has 2 MB


def special_tokens() -> list[str]:
    """Return the spellings of Llama 3.1's special tokens in the order of their ids."""
    reserved = (f"reserved_special_token_{2 + n}" for n in range(NUM_SPECIAL - len(_NAMED)))
    return [f"<|{name}|>" for name in (*_NAMED, *reserved)]


def from_meta(path: Path | str) -> Tokenizer:
    """Build the tokenizer of a Llama 3, 3.1, 3.2 or 3.3 checkpoint as Meta distributes it.

    path: tokenizer.model, or the folder that holds it. Raises BadVocabulary where the file is not what it should be.
    """
    file = Path(path)
    file = file / "tokenizer.model" if file.is_dir() else file
    tokens = _read(file)
    pieces = _written(tokens)
    specials = special_tokens()
    control = {spelling: ControlToken(len(tokens) + n, spelling) for n, spelling in enumerate(specials)}
    core = _core(tokens, pieces)
    every = pieces + specials
    return Tokenizer(
        core=core,
        core_after_control=core,
        token=every.__getitem__,
        spelling=Spelling.BYTE_LEVEL,
        vocab_size=len(every),
        control=control,
        ends=Ends(
            bos_id=control["<|begin_of_text|>"].id,
            eos_id=control["<|end_of_text|>"].id,
            eos_ids=frozenset(control[end].id for end in _ENDS),
            adds_bos=True,
        ),
        plain_ids=frozenset(token.id for token in control.values()),
    )


def _core(tokens: list[bytes], pieces: list[str]):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer as Core
    from tokenizers.models import BPE

    lefts, rights = cuts_of(tokens)
    merges = list(zip(map(pieces.__getitem__, lefts), map(pieces.__getitem__, rights), strict=True))
    core = Core(BPE(dict(zip(pieces, range(len(pieces)), strict=True)), merges, ignore_merges=True))
    core.pre_tokenizer = pre_tokenizer("llama3")
    return core


def _read(path: Path) -> list[bytes]:
    """Return the tokens in the order of their ranks."""
    data = path.read_bytes() if path.stat().st_size <= _MAX_SIZE else b""
    if data[:1] == b"\n" and b"<unk>" in data[:16]:
        raise UnsupportedModel(
            f"{path}: this is a SentencePiece model, as Llama 2 uses it",
            hint="use the model's GGUF file, or a folder with its tokenizer.json",
        )
    words = data.split()
    try:
        tokens = list(map(a2b_base64, words[0::2]))
        ranks = list(map(int, words[1::2]))
    except (Error, ValueError) as error:
        raise BadVocabulary(f"{path}: a line is not a base64 token and its rank: {error}") from error
    if not tokens or ranks != list(range(len(tokens))):
        raise BadVocabulary(f"{path}: the ranks must count from 0 without a gap, one for each token")
    if len({token for token in tokens if len(token) == 1}) != 256:
        raise BadVocabulary(f"{path}: some of the 256 single bytes are no tokens")
    return tokens


def _written(tokens: list[bytes]) -> list[str]:
    """Write all tokens in the alphabet of byte-level BPE, at once: one by one takes three times as long."""
    import numpy as np

    alphabet = np.array([ord(character) for character in ALPHABET], dtype="<u2")
    text = alphabet[np.frombuffer(b"".join(tokens), np.uint8)].tobytes().decode("utf-16-le")
    ends = np.cumsum([0, *map(len, tokens)]).tolist()
    return [text[start:end] for start, end in pairwise(ends)]
