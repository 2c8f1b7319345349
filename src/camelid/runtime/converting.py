"""Converting a model with all that belongs to it: the weights, and the tokenizer beside them in the new layout's form.

Here because weights are the business of `models` and tokenizers that of `text`, and neither knows the other.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from camelid.errors import BadVocabulary, InvalidRequest, ModelError, UnsupportedModel
from camelid.formats import Checkpoint, open_checkpoint
from camelid.models.adapters import open_adapted
from camelid.models.convert import Companions, convert
from camelid.models.load import naming_of
from camelid.models.names import Naming
from camelid.models.quantize import quantize
from camelid.models.vocabulary import read_vocabulary

from .makers import chat_template
from .vocabularies import read_tokenizer

_log = logging.getLogger(__name__)
# What is taken over as it is from one folder of safetensors to another.
_BESIDE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)


class Layout(Enum):
    """The layouts that models are converted between, by the names that the command knows."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    META = "meta"


_NAMINGS = {Layout.GGUF: Naming.GGUF, Layout.SAFETENSORS: Naming.HUGGING_FACE, Layout.META: Naming.META}


def convert_model(
    source: Path,
    target: Path,
    layout: Layout,
    *,
    quantization: str | None = None,
    num_files: int = 1,
    is_merged: bool = False,
    adapters: Sequence[Path] = (),
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Write the model at `source`, with LoRA adapters merged in their order, to `target`; see `models.convert`.

    A model whose tokenizer cannot be written in the new form is converted without it, which is logged. Raises
    NotFound, InvalidRequest, FormatError, ModelError, OSError.
    """
    with open_adapted(source, adapters) as checkpoint:
        if target.resolve() == source.resolve():
            raise InvalidRequest(f"{target} is the source itself", hint="give another name")
        naming = _NAMINGS[layout]
        companions = _companions(checkpoint, naming)
        convert(
            checkpoint,
            target,
            naming,
            companions,
            quantization=quantization,
            num_files=num_files,
            is_merged=is_merged,
            progress=progress,
        )


@contextmanager
def gguf_for_store(
    source: Path, folder: Path, quantization: str | None, progress: Callable[[int], object] = lambda _: None
) -> Iterator[Path | None]:
    """Yield a GGUF file of a model, made in `folder` and deleted afterwards; None where `source` is one that will do.

    Raises what `convert_model` and `quantize` raise.
    """
    if source.is_file() and quantization is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{os.getpid()}.gguf"
    try:
        if source.is_file():
            quantize(source, made, quantization or "", progress)
        else:
            convert_model(source, made, Layout.GGUF, quantization=quantization, progress=progress)
        yield made
    finally:
        made.unlink(missing_ok=True)


def total_bytes(source: Path) -> int:
    """Return how many bytes of weights `convert_model` is going to tell `progress` of."""
    with open_checkpoint(source) as checkpoint:
        return sum(info.size_bytes for info in checkpoint.tensors.values())


def _companions(checkpoint: Checkpoint, layout: Naming) -> Companions:
    try:
        if layout is Naming.GGUF:
            return Companions(_gguf_metadata(checkpoint), {})
        return Companions(
            {}, _hugging_face_files(checkpoint) if layout is Naming.HUGGING_FACE else _meta_files(checkpoint)
        )
    except (BadVocabulary, UnsupportedModel) as error:
        _log.warning("converted without its tokenizer: %s", error)
        return Companions({}, {})


def _gguf_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the tokenizer and the template as GGUF keeps them."""
    if naming_of(checkpoint) is Naming.GGUF:
        kept = ("tokenizer.", "general.name", "general.sampling.")
        typed = getattr(checkpoint, "typed_metadata", checkpoint.metadata)
        return {key: value for key, value in typed.items() if key.startswith(kept)}
    folder = _folder(checkpoint)
    file = next((folder / name for name in ("tokenizer.json", "tokenizer.model") if (folder / name).is_file()), None)
    if file is None:
        raise BadVocabulary(f"{folder} holds neither tokenizer.json nor tokenizer.model")
    try:
        metadata = {**read_vocabulary(file).metadata(), "general.name": folder.name}
    except ModelError as error:
        raise BadVocabulary(error.message, hint=error.hint) from error
    template = chat_template(checkpoint)
    return {**metadata, "tokenizer.chat_template": template} if template else metadata


def _hugging_face_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    from camelid.text.writing import generation_config, tokenizer_config, tokenizer_json

    folder = _folder(checkpoint)
    if naming_of(checkpoint) is not Naming.GGUF and (folder / "tokenizer.json").is_file():
        return {name: (folder / name).read_bytes() for name in _BESIDE if (folder / name).is_file()}
    tokenizer = read_tokenizer(checkpoint)
    return {
        "tokenizer.json": tokenizer_json(tokenizer),
        "tokenizer_config.json": tokenizer_config(tokenizer, chat_template(checkpoint)),
        "generation_config.json": generation_config(tokenizer),
    }


def _meta_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return tokenizer.model, or a tokenizer.json where the tokenizer is none of Llama 3's, which Meta's file is."""
    from camelid.text.writing import meta_ranks

    if naming_of(checkpoint) is not Naming.GGUF:
        for file in (_folder(checkpoint) / "tokenizer.model", _folder(checkpoint) / "original" / "tokenizer.model"):
            if file.is_file():
                return {"tokenizer.model": file.read_bytes()}
    ranks = meta_ranks(read_tokenizer(checkpoint))
    if ranks is not None:
        return {"tokenizer.model": ranks}
    _log.warning(
        "the tokenizer is none of Llama 3's: it is written as tokenizer.json, which Meta's own code cannot read"
    )
    return _hugging_face_files(checkpoint)


def _folder(checkpoint: Checkpoint) -> Path:
    return checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
