"""The draft model of a model: found, measured, and checked to have the same vocabulary, before either is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from camelid.backends.auto import devices, survey
from camelid.backends.base import CacheType
from camelid.errors import CamelidError, ModelError
from camelid.formats import Checkpoint
from camelid.models.adapters import open_adapted
from camelid.models.load import read_spec
from camelid.models.memory import MemoryNeed, memory_need
from camelid.models.spec import ModelSpec
from camelid.settings import ModelSettings
from camelid.store.local import find

from .vocabularies import read_tokenizer

HINT = "a draft model has the tokenizer of the model that it guesses for, as a smaller one of the same family has"
TOKENS = "tokenizer.ggml.tokens"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DraftFound:
    """A draft model that fits. `paths` are its weights and the adapters to be merged; `needs` are by device."""

    paths: tuple[str, ...] = ()
    needs: Mapping[str, MemoryNeed] | None = None

    def beside(self, device: str, need: MemoryNeed) -> MemoryNeed:
        """Return what a model needs together with it: for each page, it has one, too."""
        if self.needs is None:
            return need
        own = self.needs[device]
        return MemoryNeed(need.weight_bytes + own.weight_bytes, need.page_bytes + own.page_bytes)


NO_DRAFT = DraftFound()


def look_up_draft(base: Checkpoint, spec: ModelSpec, settings: ModelSettings, *, is_required: bool) -> DraftFound:
    """Read what the draft model that `settings` name is, and check that it fits a model.

    Raises NotFound, FormatError, ModelError. Where it is not required, a draft model of others is none.
    """
    if settings.draft is None or not settings.max_guessed or spec.encoder is not None:
        return NO_DRAFT
    try:
        return _look_up(settings.draft, base, spec, settings)
    except CamelidError as error:
        if is_required:
            raise
        _log.info("without the draft model %s: %s", settings.draft, error.message)
        return NO_DRAFT


def _look_up(name: str, base: Checkpoint, spec: ModelSpec, settings: ModelSettings) -> DraftFound:
    files = find(name, settings.models)
    with open_adapted(files.weights, files.adapters) as checkpoint:
        own = read_spec(checkpoint)
        if own.encoder is not None or own.vocab_size != spec.vocab_size:
            sizes = f"{own.vocab_size} tokens, and the model {spec.vocab_size}"
            what = "makes embeddings" if own.encoder is not None else f"has {sizes}"
            raise ModelError(f"the draft model {files.name} {what}", hint=HINT)
        _check_tokens(files.name, checkpoint, base)
        needs = {}
        for device in devices(settings):
            backend = survey(replace(settings, device=device))
            needs[device] = memory_need(checkpoint, own, backend, CacheType(settings.cache_type))
    return DraftFound((str(files.weights), *map(str, files.adapters)), needs)


def _check_tokens(name: str, draft: Checkpoint, base: Checkpoint) -> None:
    """Raise ModelError unless each id means the same to both."""
    lists = [checkpoint.metadata.get(TOKENS) for checkpoint in (draft, base)]
    if lists[0] is None or lists[1] is None:
        tokenizers = [read_tokenizer(checkpoint) for checkpoint in (draft, base)]
        count = read_spec(base).vocab_size
        lists = [[tokenizer.token_bytes(token) for token in range(count)] for tokenizer in tokenizers]
    for token, (own, other) in enumerate(zip(*lists, strict=False)):
        if own != other:
            raise ModelError(
                f"the draft model {name} has another tokenizer: {token} is {own!r:.40}, and {other!r:.40} in the model",
                hint=HINT,
            )
