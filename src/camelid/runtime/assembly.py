"""Puts an engine together: weights on a backend, pages, the engine itself. Done where it runs, never in a front.

It knows no tokenizer and no template.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from camelid import __version__
from camelid.backends.auto import choose_backend
from camelid.backends.base import Backend, Batch, CacheType, Team
from camelid.engine.adapters import EngineAdapters, OpenAdapter
from camelid.engine.drafting import Draft
from camelid.engine.embedding import HiddenStates
from camelid.engine.encoder_engine import EncoderEngine
from camelid.engine.engine import Engine
from camelid.engine.keeper import PageStore
from camelid.engine.settings import EngineSettings
from camelid.errors import InvalidSetting, ModelError
from camelid.formats import Checkpoint
from camelid.models.adapters import open_adapted
from camelid.models.load import Model, load_model
from camelid.models.lora import open_lora
from camelid.models.low_rank import Adapters, PlacedAdapter
from camelid.models.memory import num_pages
from camelid.models.placing_adapters import place_adapter
from camelid.models.rope import attention_spec
from camelid.models.sharding import Share, local_spec
from camelid.models.spec import ModelSpec
from camelid.store.stamps import stamp

from .adapters import key_of
from .fast_copies import FastCopies
from .frames import Load
from .prefix_files import PrefixFiles
from .rank_frames import Join
from .ranks import OtherRanks, SharedBackend


def open_engine(load: Load, say: Callable[[str], None]) -> tuple[Engine | EncoderEngine, str]:
    """Open the engine that `load` asks for, saying its stages; return it with the name of its backend.

    Raises what opening, loading and allocating raise: FormatError, ModelError, OutOfMemory, InvalidSetting.
    It is a ModelError, too, when the files are not those that the front has read.
    """
    if load.stamp is not None and load.stamp != stamp(Path(load.path), *map(Path, load.adapters)):
        raise ModelError(f"{load.path} was changed while it was used", hint="load the model again")
    settings = load.settings
    if settings.tensor_parallel > 1:
        return _open_shared(load, say)
    backend = choose_backend(settings)
    say("placing the weights")
    copies = FastCopies.of(load, backend)
    copies.use()
    checkpoint = open_adapted(load.path, load.adapters)
    table = Adapters()
    model = load_model(checkpoint, backend, table)  # what the backend keeps of the mapping keeps it open
    if copies.make_first():
        copies.use()
        model = load_model(checkpoint, backend, table)
    copies.make_later()
    limits = _limits(load, model.spec)
    if model.spec.encoder is not None:
        return EncoderEngine(model, backend, limits), backend.name
    say("opening the cache")
    backend.open_pages(attention_spec(model.spec), CacheType(settings.cache_type), load.num_pages)
    store = _page_store(load, model.spec, backend)
    adapters = EngineAdapters(table, _opener(checkpoint, model.spec, backend))
    for adapt in load.choosable:
        say("placing adapters")
        adapters.take(adapt.key, adapt.path)
    draft = _open_draft(load, model.spec, say)
    return Engine(model, backend, limits, store=store, encoder=model, adapters=adapters, draft=draft), backend.name


def _limits(load: Load, spec: ModelSpec) -> EngineSettings:
    settings = load.settings
    return EngineSettings(
        vocabulary_size=spec.vocab_size,
        context_length=load.context_length,
        num_pages=load.num_pages or num_pages(load.context_length),
        max_batch_tokens=settings.prefill_chunk,
        max_sequences=settings.max_sequences,
        max_waiting=settings.max_waiting,
        max_guessed=settings.max_guessed,
    )


def _open_shared(load: Load, say: Callable[[str], None]) -> tuple[Engine, str]:
    """Open an engine whose model several ranks compute; this process is the first of them."""
    _check_shareable(load)
    say(f"starting {load.settings.tensor_parallel} ranks")
    others = OtherRanks(load)
    try:
        backend = choose_backend(load.settings, others.team)
        say("placing the weights")
        model = _open_share(load, others.team, backend)
        others.wait()
        shared = SharedBackend(backend, others)
        draft = _open_draft(load, model.spec, say)
        limits = _limits(load, model.spec)
        engine = Engine(model, shared, limits, encoder=model, draft=draft, on_close=others.close)
    except BaseException:
        others.close()
        raise
    return engine, backend.name


def _open_share(load: Load, team: Team, backend: Backend) -> Model:
    """Place a rank's part of the weights, and open its part of the pages."""
    checkpoint = open_adapted(load.path, load.adapters)
    model = load_model(checkpoint, backend, Adapters(), Share(team.rank, team.size))
    attention = attention_spec(local_spec(model.spec, team.size))
    backend.open_pages(attention, CacheType(load.settings.cache_type), load.num_pages)
    return model


def _check_shareable(load: Load) -> None:
    """Raise InvalidSetting for what several ranks cannot do yet."""
    for given, flag in ((load.choosable, "--adapter"), (load.settings.prefix_cache, "--prefix-cache")):
        if given:
            raise InvalidSetting(
                f"{flag} is not there with --tensor-parallel {load.settings.tensor_parallel}",
                hint="merge the adapter (camelid convert --merge-adapter)" if flag == "--adapter" else "leave it out",
            )


def open_rank(order: Join) -> Callable[[Batch, bool], None]:
    """Open a further rank, and return what it does with each batch: compute it, for the hidden states or for logits.

    Raises what `open_engine` raises.
    """
    team = Team(order.rank, order.size, order.meeting)
    backend = choose_backend(order.load.settings, team)
    model = _open_share(order.load, team, backend)

    def run(batch: Batch, is_hidden: bool) -> None:
        backend.run(HiddenStates(model) if is_hidden else model, batch)

    return run


def _open_draft(load: Load, spec: ModelSpec, say: Callable[[str], None]) -> Draft | None:
    """Open the draft model that `load` asks for, on a backend of its own, with as many pages as the model has."""
    if not load.draft:
        return None
    say("placing the draft model")
    settings = replace(load.settings, tensor_parallel=1)  # a draft model is small: the first rank has all of it
    backend = choose_backend(settings)
    model = load_model(open_adapted(load.draft[0], load.draft[1:]), backend)
    if model.spec.vocab_size != spec.vocab_size:
        raise ModelError(f"{load.draft[0]} was changed while it was used", hint="load the model again")
    backend.open_pages(attention_spec(model.spec), CacheType(settings.cache_type), load.num_pages)
    return Draft(model, backend, load.num_pages, model.spec.context_length)


def _opener(checkpoint: Checkpoint, spec: ModelSpec, backend: Backend) -> OpenAdapter:
    """Return what opens adapters of a model."""

    def open_one(key: str, path: str) -> PlacedAdapter:
        if key_of(Path(path)) != key:
            raise ModelError(f"{path} was changed while it was used", hint="load the adapter again")
        with open_lora(Path(path)) as adapter:
            return place_adapter(adapter, checkpoint, spec, backend)

    return open_one


def _page_store(load: Load, spec: ModelSpec, backend: Backend) -> PageStore | None:
    """Return where computed prompts are kept, if anywhere. What a page's bytes mean is told by all of the identity."""
    settings = load.settings
    if settings.prefix_cache is None:
        return None
    identity = "\n".join((__version__, backend.name.split()[0], settings.cache_type, load.stamp or load.path))
    page_bytes = backend.page_bytes(attention_spec(spec), CacheType(settings.cache_type))
    folder = Path(settings.prefix_cache).expanduser()
    return PrefixFiles(folder, identity, page_bytes, settings.prefix_cache_size)
