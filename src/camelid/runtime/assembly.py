"""Puts an engine together: weights on a backend, pages, the engine itself. Done where it runs, never in a front.

It knows no tokenizer and no template.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from camelid.backends.auto import choose_backend
from camelid.backends.base import CacheType
from camelid.engine.engine import Engine
from camelid.engine.settings import EngineSettings
from camelid.errors import ModelError
from camelid.formats import open_checkpoint
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.store.local import stamp

from .frames import Load


def open_engine(load: Load, say: Callable[[str], None]) -> tuple[Engine, str]:
    """Open the engine that `load` asks for, saying its stages; return it with the name of its backend.

    Raises what opening, loading and allocating raise: FormatError, ModelError, OutOfMemory, InvalidSetting.
    It is a ModelError, too, when the files are not those that the front has read.
    """
    if load.stamp is not None and load.stamp != stamp(Path(load.path)):
        raise ModelError(f"{load.path} was changed while it was used", hint="load the model again")
    settings = load.settings
    backend = choose_backend(settings)
    say("placing the weights")
    model = load_model(open_checkpoint(load.path), backend)  # what the backend keeps of the mapping keeps it open
    say("opening the cache")
    backend.open_pages(attention_spec(model.spec), CacheType(settings.cache_type), load.num_pages)
    limits = EngineSettings(
        vocabulary_size=model.spec.vocab_size,
        context_length=load.context_length,
        num_pages=load.num_pages,
        max_batch_tokens=settings.prefill_chunk,
        max_sequences=settings.max_sequences,
        max_waiting=settings.max_waiting,
        max_guessed=settings.max_guessed,
    )
    return Engine(model, backend, limits), backend.name
