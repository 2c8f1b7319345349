"""Builds a tokenizer from a Hugging Face folder: tokenizer.json and the small files beside it.

Separate from the other builders because here the library reads the rules itself; what is left is to find the control
tokens, the ids that begin and end, and how the vocabulary writes bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camelid.errors import BadVocabulary, NotFound, UnsupportedModel

from .tokenizer import TURN_ENDS, ControlToken, Ends, Spelling, Tokenizer, looks_like_control

if TYPE_CHECKING:
    import tokenizers

_MAX_SIZE = 256 * 2**20  # the largest in use have about 35 MB


def from_tokenizer_json(path: Path | str) -> Tokenizer:
    """Build the tokenizer of a Hugging Face folder.

    path: tokenizer.json, or the folder that holds it; tokenizer_config.json, special_tokens_map.json and
    generation_config.json beside it are read where they exist. Raises NotFound, BadVocabulary, or UnsupportedModel for
    a kind that is not text to tokens and back (WordPiece, for one).
    """
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    core = _load(file)
    settings = _settings(file.parent)
    added = core.get_added_tokens_decoder()
    control = {
        token.content: ControlToken(index, token.content, token.lstrip, token.rstrip)
        for index, token in added.items()
        if token.content and (token.special or looks_like_control(token.content))
    }
    rules = _Rules(core)
    core.encode_special_tokens = True  # from here on the library takes special tokens for text; they are found here
    return Tokenizer(
        core=core,
        core_after_control=rules.without_first_space(core),
        token=core.id_to_token,
        spelling=rules.spelling(file),
        vocab_size=1 + max(core.get_vocab(with_added_tokens=True).values(), default=-1),  # ids may have gaps
        control=control,
        ends=_ends(file, settings, control, rules.first_id),
        plain_ids=frozenset(added),
        strips_first_space=rules.strips_first_space,
        unknown_id=core.token_to_id(core.model.unk_token) if getattr(core.model, "unk_token", None) else None,
    )


def _load(file: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Core

    if not file.is_file():
        raise NotFound(f"{file}: no such file", hint="a model folder needs a tokenizer.json")
    if file.stat().st_size > _MAX_SIZE:
        raise BadVocabulary(f"{file}: has {file.stat().st_size} bytes, and at most {_MAX_SIZE} are read")
    try:
        core = Core.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise BadVocabulary(f"{file}: the tokenizers library does not accept it: {error}") from error
    core.no_truncation()
    core.no_padding()
    return core


class _Rules:
    """What the library's parts say of a vocabulary. Each part describes itself as JSON."""

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        self._decoder = _states(core.decoder)
        self._pre_tokenizer = _states(core.pre_tokenizer)
        ids = core.encode("", add_special_tokens=True).ids
        self.first_id = ids[0] if ids else None

    def spelling(self, file: Path) -> Spelling:
        kinds = {state["type"] for state in self._decoder}
        if "ByteLevel" in kinds:
            return Spelling.BYTE_LEVEL
        if kinds & {"ByteFallback", "Metaspace"}:
            return Spelling.SENTENCE_PIECE
        raise UnsupportedModel(f"{file}: its decoder {sorted(kinds)} is neither byte-level nor SentencePiece-like")

    @property
    def strips_first_space(self) -> bool:
        return any(
            (state["type"] == "Strip" and state.get("start", 0) > 0 and state.get("content") == " ")
            or (state["type"] == "Metaspace" and state.get("prepend_scheme", "always") != "never")
            for state in self._decoder
        )

    def without_first_space(self, core: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        """Return a tokenizer for text that is not the first, in vocabularies that put a space before the first word
        only.
        """
        from tokenizers import Tokenizer as Core
        from tokenizers.pre_tokenizers import Metaspace, Sequence

        if not any(state.get("prepend_scheme") == "first" for state in self._pre_tokenizer):
            return core
        if len(self._pre_tokenizer) != 1:
            raise UnsupportedModel(
                "a Metaspace pre-tokenizer inside a sequence, with prepend_scheme 'first', is not supported"
            )
        state = self._pre_tokenizer[0]
        copy = Core.from_str(core.to_str())
        copy.encode_special_tokens = True
        copy.pre_tokenizer = Sequence([Metaspace(state["replacement"], "never", state.get("split", True))])
        return copy


def _states(part: Any) -> list[dict[str, Any]]:
    """Return the part's description, or those of its parts in order."""
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    inner = state.get("decoders") or state.get("pretokenizers")
    return list(inner) if inner else [state]


def _settings(folder: Path) -> dict[str, Any]:
    """Return the files beside tokenizer.json as one mapping, eos_token_id from generation_config.json."""
    merged: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        merged |= read_json(folder / name)
    merged["eos_token_id"] = read_json(folder / "generation_config.json").get("eos_token_id")
    return merged


def read_json(file: Path) -> dict[str, Any]:
    """Return a small JSON file's object, empty if there is no file. Raises BadVocabulary if it is not an object."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_bytes()) if file.stat().st_size <= _MAX_SIZE else None
    except (ValueError, RecursionError) as error:
        raise BadVocabulary(f"{file}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadVocabulary(f"{file}: must hold a JSON object")
    return value


def _ends(file: Path, settings: Mapping[str, Any], control: Mapping[str, ControlToken], first_id: int | None) -> Ends:
    bos = control.get(_content(settings.get("bos_token")))
    bos_id = bos.id if bos else first_id
    adds_bos = settings.get("add_bos_token")
    adds_bos = first_id is not None and first_id == bos_id if adds_bos is None else bool(adds_bos)
    eos = control.get(_content(settings.get("eos_token")))
    eos_id = eos.id if eos else None
    known = (token.id for spelling, token in control.items() if spelling in TURN_ENDS)
    eos_ids = frozenset((*known, *_ids(file, settings["eos_token_id"])))
    return Ends(
        bos_id=bos_id,
        eos_id=eos_id,
        eos_ids=eos_ids if eos_id is None else eos_ids | {eos_id},
        adds_bos=adds_bos and bos_id is not None,
    )


def _ids(file: Path, value: object) -> Iterable[int]:
    """Return generation_config.json's eos_token_id, which is one id or a list of them."""
    ids: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    for index in ids:
        if not isinstance(index, int) or index < 0:
            raise BadVocabulary(
                f"{file.parent / 'generation_config.json'}: eos_token_id holds {index!r}, which is no token id"
            )
    return ids


def _content(token: object) -> str:
    """Return a special token as a configuration writes it: its text, or an object with the text as `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
