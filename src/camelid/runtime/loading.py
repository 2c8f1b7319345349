"""A name becomes a model: files, numbers, sizes, tokenizer, template. All of it but the weights.

The front of an engine process needs exactly this much, so nothing here reads more of a weight than its name and shape.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from camelid.backends.auto import devices, survey
from camelid.backends.base import CacheType
from camelid.errors import TemplateError, UnsupportedModel
from camelid.formats import Checkpoint, open_checkpoint
from camelid.models.adapters import open_adapted
from camelid.models.load import read_spec
from camelid.models.memory import memory_need
from camelid.models.spec import ModelSpec
from camelid.settings import ModelSettings
from camelid.store.local import ModelFiles, find
from camelid.store.stamps import stamp
from camelid.text.templates import ChatTemplate, load_go_template, load_template
from camelid.text.tokenizer import Tokenizer

from .adapters import AdapterFile, look_up_adapter
from .drafts import DraftFound, look_up_draft
from .makers import chat_template, recommended_sampling, recommended_stopping, with_parameters, with_placement
from .model import Description, NoTemplate, TextSide
from .placing import Found, Option, place
from .vocabularies import read_tokenizer

NO_CHAT = NoTemplate(TemplateError("this model makes embeddings and does not support chat"))

NO_ADAPTERS: Mapping[str, str] = MappingProxyType({})
OLLAMA_VERSION = (0, 33, 0)  # whose models, Modelfiles and templates Camelid follows

_log = logging.getLogger(__name__)


def describe(name: str, settings: ModelSettings) -> Description:
    """Find a model and choose its sizes, as if it were alone on this machine.

    Raises NotFound, FormatError, ModelError, InvalidSetting, and OutOfMemory when it would not fit.
    """
    return place(look_up(find(name, settings.models), settings)).description


def look_up(
    files: ModelFiles, settings: ModelSettings, adapters: Mapping[str, str] = NO_ADAPTERS, *, needs_draft: bool = True
) -> Found:
    """Read what a model is and what it needs on each device that may be taken.

    `adapters` are paths by name, of those that requests may choose. needs_draft: a draft model that is set has to fit.
    Raises FormatError, ModelError, InvalidSetting, MissingDependency; NotFound and InvalidRequest for an adapter.
    """
    _check_version(files)
    files_stamp = stamp(files.weights, *files.adapters)
    with open_adapted(files.weights, files.adapters) as checkpoint:
        spec = read_spec(checkpoint)
        settings = with_placement(settings, files.parameters, spec.context_length)
        options = tuple(_option(checkpoint, spec, replace(settings, device=one)) for one in devices(settings))
        num_parameters = sum(math.prod(info.shape) for info in checkpoint.tensors.values())
        chosen = tuple(look_up_adapter(name, path, checkpoint, spec) for name, path in adapters.items())
        draft = look_up_draft(checkpoint, spec, settings, is_required=needs_draft)
    options = tuple(_beside(options, chosen, draft))
    return Found(files, files_stamp, spec, num_parameters, options, settings, chosen, draft.paths)


def look_up_another(files: ModelFiles, name: str, path: str) -> AdapterFile:
    """Read what an adapter is that is to be used with a model that is loaded. Raises as `look_up` does."""
    with open_adapted(files.weights, files.adapters) as checkpoint:
        return look_up_adapter(name, path, checkpoint, read_spec(checkpoint))


def _beside(options: Iterable[Option], adapters: Sequence[AdapterFile], draft: DraftFound) -> Iterator[Option]:
    """Yield options with what adapters and a draft model need beside the model."""
    size_bytes = sum({file.key: file.size_bytes for file in adapters}.values())
    for option in options:
        need = replace(option.need, weight_bytes=option.need.weight_bytes + size_bytes)
        yield replace(option, need=draft.beside(option.device, need))


def _check_version(files: ModelFiles) -> None:
    """Raise UnsupportedModel for a model that needs more than the Ollama that Camelid follows (REQUIRES)."""
    numbers = re.match(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", files.requires or "")
    if numbers is not None and tuple(map(int, numbers.groups())) > OLLAMA_VERSION:
        known = ".".join(map(str, OLLAMA_VERSION))
        raise UnsupportedModel(
            f"{files.name} requires Ollama {files.requires}, and this version knows what {known} knows",
            hint="update camelid",
        )


def _option(checkpoint: Checkpoint, spec: ModelSpec, settings: ModelSettings) -> Option:
    backend = survey(settings)
    need = memory_need(checkpoint, spec, backend, CacheType(settings.cache_type), settings.tensor_parallel)
    return Option(settings.device, need, backend.memory().available_bytes)


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
        is_encoder = description.spec.encoder is not None
        template = NO_CHAT if is_encoder else _template(checkpoint, tokenizer, go)
        return TextSide(tokenizer, template, sampling, recommended_stopping(files.parameters))


def _template(checkpoint: Checkpoint, tokenizer: Tokenizer, go: str | None) -> ChatTemplate:
    """Return the Go template that a store has for the model, or the one that comes with the weights."""
    try:
        return load_template(chat_template(checkpoint), tokenizer) if go is None else load_go_template(go, tokenizer)
    except TemplateError as error:
        _log.warning("%s can complete texts, but not chat: %s", checkpoint.path, error)
        return NoTemplate(error)
