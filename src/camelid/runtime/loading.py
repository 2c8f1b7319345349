"""A name becomes a model: files, numbers, sizes, tokenizer, template. All of it but the weights.

The front of an engine process needs exactly this much, so nothing here reads more of a weight than its name and shape.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace

from camelid.backends.auto import choose_backend, devices
from camelid.backends.base import CacheType
from camelid.errors import BadVocabulary, OutOfMemory, TemplateError, UnsupportedModel
from camelid.formats import Checkpoint, open_checkpoint
from camelid.models.adapters import open_adapted
from camelid.models.load import naming_of, read_spec
from camelid.models.memory import memory_need
from camelid.models.names import Naming
from camelid.models.spec import ModelSpec
from camelid.settings import ModelSettings
from camelid.store.local import ModelFiles, find, stamp
from camelid.text.templates import ChatTemplate, load_go_template, load_template
from camelid.text.tokenizer import Tokenizer

from .makers import chat_template, recommended_sampling, recommended_stopping, with_parameters, with_placement
from .model import Description, NoTemplate, TextSide
from .sizing import Sizing, choose_sizing

OLLAMA_VERSION = (0, 33, 0)  # whose models, Modelfiles and templates Camelid follows

_log = logging.getLogger(__name__)


def describe(name: str, settings: ModelSettings) -> Description:
    """Find a model and choose its sizes.

    Raises NotFound, FormatError, ModelError, InvalidSetting, and OutOfMemory when it would not fit.
    """
    files = find(name, settings.models)
    _check_version(files)
    files_stamp = stamp(files.weights, *files.adapters)
    with open_adapted(files.weights, files.adapters) as checkpoint:
        spec = read_spec(checkpoint)
        settings = with_placement(settings, files.parameters, spec.context_length)
        device, sizing = _place(checkpoint, spec, settings)
        num_parameters = sum(math.prod(info.shape) for info in checkpoint.tensors.values())
    _log.info(
        "%s: %d parameters, a context of %d tokens, %d pages of cache, %.0f MiB when all are used",
        *(files.name, num_parameters, sizing.context_length, sizing.num_pages, sizing.memory_bytes / 2**20),
    )
    return Description(files, spec, num_parameters, replace(settings, device=device), sizing, files_stamp)


def _check_version(files: ModelFiles) -> None:
    """Raise UnsupportedModel for a model that needs more than the Ollama that Camelid follows (REQUIRES)."""
    numbers = re.match(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", files.requires or "")
    if numbers is not None and tuple(map(int, numbers.groups())) > OLLAMA_VERSION:
        known = ".".join(map(str, OLLAMA_VERSION))
        raise UnsupportedModel(
            f"{files.name} requires Ollama {files.requires}, and this version knows what {known} knows",
            hint="update camelid",
        )


def _place(checkpoint: Checkpoint, spec: ModelSpec, settings: ModelSettings) -> tuple[str, Sizing]:
    """Choose the first device that the model fits on. Raises what choosing a backend and sizes raises."""
    *others, last = devices(settings)
    for device in others:
        try:
            return device, _sizing(checkpoint, spec, replace(settings, device=device))
        except OutOfMemory as error:
            _log.info("not on the %s: %s", device, error.message)
    return last, _sizing(checkpoint, spec, replace(settings, device=last))


def _sizing(checkpoint: Checkpoint, spec: ModelSpec, settings: ModelSettings) -> Sizing:
    backend = choose_backend(settings)
    need = memory_need(checkpoint, spec, backend, CacheType(settings.cache_type))
    return choose_sizing(need, backend.memory().available_bytes, spec.context_length, settings)


def read_text_side(description: Description) -> TextSide:
    """Read tokenizer, chat template and recommended sampling.

    Raises BadVocabulary and FormatError. A model without a usable template is still one for completions: it is asking
    it to chat that raises the TemplateError.
    """
    with open_checkpoint(description.files.weights) as checkpoint:
        tokenizer = read_tokenizer(checkpoint)
        tokenizer.check_rows(description.spec.vocab_size)
        files = description.files
        sampling = with_parameters(recommended_sampling(checkpoint), files.parameters)
        go = files.template if description.settings.go_template else None
        return TextSide(
            tokenizer, _template(checkpoint, tokenizer, go), sampling, recommended_stopping(files.parameters)
        )


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


def _template(checkpoint: Checkpoint, tokenizer: Tokenizer, go: str | None) -> ChatTemplate:
    """Return the Go template that a store has for the model, or the one that comes with the weights."""
    try:
        return load_template(chat_template(checkpoint), tokenizer) if go is None else load_go_template(go, tokenizer)
    except TemplateError as error:
        _log.warning("%s can complete texts, but not chat: %s", checkpoint.path, error)
        return NoTemplate(error)
