"""The tokenizer that belongs to a checkpoint: in its metadata, or in a file beside the weights."""

from __future__ import annotations

from camelid.errors import BadVocabulary
from camelid.formats import Checkpoint
from camelid.models.load import naming_of
from camelid.models.names import Naming
from camelid.text.tokenizer import Tokenizer


def read_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Return the tokenizer that belongs to a checkpoint. Raises BadVocabulary, UnsupportedModel."""
    from camelid.text import from_gguf, from_meta, from_tokenizer_json

    if naming_of(checkpoint) is Naming.GGUF:
        return from_gguf(checkpoint.metadata)
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    if (folder / "tokenizer.json").is_file():
        return from_tokenizer_json(folder)
    if (folder / "tokenizer.model").is_file():
        return from_meta(folder / "tokenizer.model")
    raise BadVocabulary(
        f"{folder} holds neither tokenizer.json nor tokenizer.model",
        hint="put the tokenizer that belongs to these weights beside them",
    )
