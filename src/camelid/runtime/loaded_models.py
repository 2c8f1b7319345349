"""The models that are loaded: opened when they are asked for, kept as long as was asked, unloaded when memory is short.

Who may stay is decided in `residents.py` and `placing.py`; here it is carried out. Belongs to one asyncio loop. It
knows no requests, only that a model is being used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from camelid.backends.auto import survey
from camelid.errors import CamelidError, InvalidRequest, NotFound, OutOfMemory, Overloaded
from camelid.models.memory import MemoryNeed
from camelid.settings import KeepSettings, ModelSettings
from camelid.store.local import ModelFiles, find, find_by_name, own_name

from .adapters import MAX_ADAPTERS, AdapterFile
from .loading import look_up, look_up_another
from .model import Description, LoadedModel
from .placing import Found, Option, Placement, Tenant, free_bytes, place
from .residents import Residents
from .status import ModelStatus

RETRY_S = 5.0  # when to come back if a model is still being loaded, or memory is taken

OpenModel = Callable[[Description], Awaitable[LoadedModel]]

_log = logging.getLogger(__name__)


class LoadedModels:
    """Models by name. With `keep` None nothing is loaded but by `load`, and nothing leaves but by `unload`."""

    def __init__(
        self,
        settings: ModelSettings,
        keep: KeepSettings | None,
        open_model: OpenModel,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._keep = keep
        self._open_model = open_model
        self._clock_s = clock_s
        self._models: dict[str, LoadedModel] = {}
        self._residents = Residents()
        self._own_names: dict[str, str] = {}  # by the names that models were asked for
        self._adapters: dict[str, dict[str, str]] = {}  # of each model, loaded or not: paths by their names
        self._sources: dict[str, str] = {}  # where what an operator loaded is found again, by its own name
        self._loads: dict[str, asyncio.Task[LoadedModel]] = {}
        self._one_at_a_time = asyncio.Lock()  # loads and unloads: each is told what memory is free
        self._has_changed = asyncio.Event()  # a request has ended: there may be room now
        self._num_waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sweep: asyncio.Task[None] | None = None

    # ── what is there ──

    def all(self) -> list[LoadedModel]:
        """Return the loaded models, in the order of their loading."""
        return list(self._models.values())

    def statuses(self) -> list[ModelStatus]:
        """Return what is shown of the loaded models, in the order of their loading."""
        now_s = self._clock_s()
        return [
            self._with_times(status, model.base, now_s)
            for model in self._models.values()
            for status in (model.status(), *model.adapter_statuses())
        ]

    def get(self, name: str) -> LoadedModel:
        """Return a loaded model by its own name or by one that it was asked for. Raises NotFound."""
        model = self._find(name)
        if model is None:
            listed = ", ".join(self._models) or "none"
            raise NotFound(f"the model {name!r} is not loaded", hint=f"loaded models: {listed}")
        return model

    def _find(self, name: str) -> LoadedModel | None:
        base, adapter = self._parted(name)
        model = self._models.get(base) or self._models.get(self._own_name(base))
        return model.adapted(adapter) if model is not None and adapter else model

    def _own_name(self, name: str) -> str:
        return self._own_names.get(name) or own_name(name)

    def _parted(self, name: str) -> tuple[str, str]:
        """Return a model's name and that of its adapter, empty for none: an operator gave it, so it goes first."""
        base, _, adapter = name.rpartition(":")
        known = base and (self._adapters.get(base) or self._adapters.get(self._own_name(base)))
        return (base, adapter) if known and adapter in known else (name, "")

    def _with_times(self, status: ModelStatus, base: str, now_s: float) -> ModelStatus:
        left_s = self._residents.leaves_at_s(base, now_s) - now_s
        return replace(
            status,
            expires_at=None if left_s == math.inf else time.time() + left_s,
            num_requests=self._residents.num_requests(base),
        )

    # ── coming ──

    async def load(self, name: str, *, is_judge: bool = False) -> LoadedModel:
        """Load a model for an operator: `cria`, a path or a name of the store; return it if it is loaded.

        is_judge: it is loaded for another's sake, whose adapters and draft model are not its own. Raises NotFound,
        FormatError, ModelError, OutOfMemory, InvalidSetting, MissingDependency, Unavailable.
        """
        model = self._models.get(self._own_names.get(name, ""))
        if model is None:
            model = await asyncio.shield(self._begin_load(name, is_operators=True, is_judge=is_judge))
            self._sources[model.name] = name
        return model

    async def ready(self, name: str, keep_s: float | None = None) -> LoadedModel:
        """Return a model that a caller asks for, loaded now if need be; it stays for the request that follows.

        name: one of the store, `cria`, or what an operator loaded; never a path. keep_s: how long the model is kept
        behind the request, None for as long as usual. Raises what `load` raises, and Overloaded when too many wait for
        models or one takes too long.
        """
        model = await self._obtain(name)
        self._residents.ask(model.base, keep_s, self._clock_s())
        self._set_timer()
        return model

    async def keep(self, name: str, keep_s: float | None) -> LoadedModel:
        """Return a model as `ready` does, where no request follows: its time begins now."""
        model = await self._obtain(name)
        self._residents.keep(model.base, keep_s, self._clock_s())
        self._set_timer()
        return model

    async def _obtain(self, name: str) -> LoadedModel:
        model = self._find(name)
        if model is not None:
            return model
        if self._keep is None:
            return self.get(name)
        base, adapter = self._parted(name)
        model = await self._wait_for(base, self._keep)
        return model.adapted(adapter) if adapter else model

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[LoadedModel]:
        """Give a model for one request, and keep it loaded until the request has ended. Raises what `ready` raises."""
        model = self._find(name) or await self.ready(name)
        self._residents.begin(model.base, self._clock_s())
        if model.adapter is not None:
            model.adapters.begin(model.adapter.key)
        try:
            yield model
        finally:
            current = self._models.get(model.base)
            if current is not None and current.engine is model.engine:
                self._residents.end(model.base, self._clock_s())
                if model.adapter is not None:
                    model.adapters.end(model.adapter.key)
            self._has_changed.set()
            self._set_timer()

    async def _wait_for(self, name: str, keep: KeepSettings) -> LoadedModel:
        """Wait for a model that is being loaded, in a bounded queue and for a bounded time."""
        if self._num_waiting >= self._settings.max_waiting:
            raise Overloaded(f"{self._num_waiting} requests wait for models already", retry_after_s=RETRY_S)
        self._num_waiting += 1
        try:
            async with asyncio.timeout(keep.load_timeout):
                return await asyncio.shield(self._begin_load(name, is_operators=False))
        except TimeoutError:
            waited = f"{name!r} is not loaded after {keep.load_timeout:g} s"
            raise Overloaded(waited, retry_after_s=RETRY_S, hint="ask again, or raise --load-timeout") from None
        finally:
            self._num_waiting -= 1

    def _begin_load(self, name: str, *, is_operators: bool, is_judge: bool = False) -> asyncio.Task[LoadedModel]:
        """Return the task that loads a model; who waits for it may leave without ending it."""
        task = self._loads.get(name)
        if task is None:
            task = self._loads[name] = asyncio.create_task(
                self._load(name, is_operators, has_company=is_operators and not is_judge), name=f"loading {name}"
            )
            task.add_done_callback(lambda done: self._forget_load(name, done))
        return task

    def _forget_load(self, name: str, task: asyncio.Task[LoadedModel]) -> None:
        del self._loads[name]
        if not task.cancelled():
            task.exception()  # seen: those who waited for it may have left

    async def _load(self, name: str, is_operators: bool, *, has_company: bool) -> LoadedModel:
        """Load a model; has_company: with the adapters and the draft model that are set."""
        async with self._one_at_a_time:
            files = await asyncio.to_thread(self._files, name, is_operators)
            model = self._same(files)
            if model is None:
                adapters = self._adapters_of(files, has_company)
                found = await asyncio.to_thread(look_up, files, self._settings, adapters, needs_draft=has_company)
                description = await self._make_room(found if is_operators else _fitting(found))
                model = await self._open_model(description)
                self._models[model.name] = model
                self._adapters[model.name] = {file.name: file.path for file in model.adapters.files}
                self._residents.add(model.name, self._usual_keep_s(is_operators), self._clock_s())
            if is_operators:  # a caller's spellings are not remembered: there is no end to them
                self._own_names |= {name: model.name, model.name: model.name}
            self._set_timer()
            return model

    def _files(self, name: str, is_operators: bool) -> ModelFiles:
        source = self._sources.get(self._own_names.get(name, name))
        if source is not None or is_operators:
            return find(source or name, self._settings.models)
        return find_by_name(name, self._settings.models)

    def _adapters_of(self, files: ModelFiles, has_company: bool) -> dict[str, str]:
        """Return the adapters that a model comes with: those it had, else those that the operator gives with it."""
        given = dict(self._settings.adapter) if has_company else {}
        return self._adapters.get(files.name, given)

    def _same(self, files: ModelFiles) -> LoadedModel | None:
        """Return the loaded model that has these files. Raises InvalidRequest if another one has their name."""
        model = self._models.get(files.name)
        if model is not None and model.description.files.weights != files.weights:
            path = model.description.files.weights
            raise InvalidRequest(f"a model called {files.name} is loaded already, from {path}", field="model")
        return model

    def _usual_keep_s(self, is_operators: bool) -> float:
        """Return how long a model stays: for ever where an operator loaded it and nothing was said."""
        if self._keep is None or (is_operators and self._keep.keep_alive is None):
            return math.inf
        return self._keep.usual_keep_s

    # ── adapters ──

    async def load_adapter(self, model: str, name: str, path: str, *, replaces: bool) -> AdapterFile:
        """Let requests choose an adapter of a loaded model (see `Runtime.load_adapter`)."""
        async with self._one_at_a_time:
            loaded = self._base(model)
            names = self._adapters[loaded.base]
            if name in names and not replaces:
                raise InvalidRequest(f"the adapter {name!r:.80} is loaded already", field="lora_name")
            if len(names) >= MAX_ADAPTERS and name not in names:
                raise InvalidRequest(f"{loaded.base} has {MAX_ADAPTERS} adapters, which is the most", field="lora_name")
            file = await asyncio.to_thread(look_up_another, loaded.description.files, name, path)
            await asyncio.to_thread(self._check_room, loaded, file)
            await loaded.adapters.add(file)
            names[name] = file.path
            _log.info("%s:%s is ready, %.1f MiB of rank %d", loaded.base, name, file.size_bytes / 2**20, file.rank)
            return file

    async def unload_adapter(self, model: str, name: str) -> None:
        """Take no more requests for an adapter (see `Runtime.unload_adapter`)."""
        async with self._one_at_a_time:
            loaded = self._base(model)
            loaded.adapters.remove(name)
            del self._adapters[loaded.base][name]
            _log.info("%s:%s is unloaded", loaded.base, name)

    def _base(self, name: str) -> LoadedModel:
        """Return a loaded model without an adapter. Raises NotFound."""
        return replace(self.get(name), adapter=None)

    def _check_room(self, model: LoadedModel, file: AdapterFile) -> None:
        """Raise OutOfMemory if an adapter does not fit beside what is loaded."""
        settings = model.description.settings
        free = survey(settings).memory().available_bytes
        left = free_bytes(
            Option(settings.device, MemoryNeed(0, 0), free), model.description.vacant_bytes, self._tenants(), ()
        )
        if file.size_bytes > left:
            raise OutOfMemory(
                f"the adapter {file.name} needs {file.size_bytes / 2**20:.1f} MiB, and {left / 2**20:.1f} MiB are free",
                hint="unload another one, or give the cache less memory: --cache-memory",
            )

    # ── making room ──

    async def _make_room(self, found: Found) -> Description:
        """Unload what has to leave for a model, waiting for models in use if need be. Raises OutOfMemory."""
        patience_s = None if self._keep is None else self._keep.load_timeout
        deadline_s = None if patience_s is None else asyncio.get_running_loop().time() + patience_s
        while True:
            self._has_changed.clear()
            try:
                placement = self._place(found)
            except OutOfMemory:
                if not await self._somebody_leaves(deadline_s):
                    raise
            else:
                await self._close([self._take_out(name) for name in placement.leaving])
                return placement.description

    def _place(self, found: Found) -> Placement:
        most_models = None if self._keep is None else self._keep.max_loaded_models
        return place(found, self._tenants(), most_models)

    def _tenants(self) -> list[Tenant]:
        """Return the loaded models in the order in which they make room."""
        return [
            Tenant(
                name,
                self._models[name].description.settings.device,
                self._models[name].memory_bytes,
                self._models[name].description.vacant_bytes,
                may_leave=is_idle and self._keep is not None,
            )
            for name, is_idle in self._residents.by_age(self._clock_s())
        ]

    async def _somebody_leaves(self, deadline_s: float | None) -> bool:
        """Wait until a request ends; False if none is running or the time is over."""
        if self._keep is None or all(tenant.may_leave for tenant in self._tenants()):
            return False
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._has_changed.wait()
        except TimeoutError:
            return False
        return True

    # ── leaving ──

    async def unload(self, name: str) -> None:
        """Unload a model and end its engine. Its open requests end with Unavailable. Raises NotFound."""
        async with self._one_at_a_time:
            await self._close([self._take_out(self.get(name).base)])

    async def release(self, name: str) -> None:
        """Unload a model now, or as soon as its last request has ended. Raises NotFound."""
        self._residents.release(self.get(name).base)
        await self.unload_due()

    async def unload_due(self) -> None:
        """Unload the models whose time is over."""
        async with self._one_at_a_time:
            await self._close([self._take_out(name) for name in self._residents.due(self._clock_s())])
        self._set_timer()

    async def close(self) -> None:
        """Unload everything, and give up what is being loaded. Open requests end with Unavailable."""
        if self._timer is not None:
            self._timer.cancel()
        for task in [*self._loads.values(), *([self._sweep] if self._sweep else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, CamelidError):
                await task
        async with self._one_at_a_time:
            await self._close([self._take_out(name) for name in list(self._models)])

    def _take_out(self, name: str) -> LoadedModel:
        """Take a model out, so that nobody is given it any more."""
        self._residents.remove(name)
        return self._models.pop(name)

    async def _close(self, models: list[LoadedModel]) -> None:
        for model in models:
            await model.close()
            _log.info("%s is unloaded", model.name)

    def _set_timer(self) -> None:
        """Have the models that are due next unloaded when it is time."""
        if self._timer is not None:
            self._timer.cancel()
        now_s = self._clock_s()
        due_s = self._residents.next_due_s(now_s)
        loop = asyncio.get_running_loop()
        self._timer = None if due_s == math.inf else loop.call_later(max(due_s - now_s, 0.0), self._begin_sweep)

    def _begin_sweep(self) -> None:
        self._sweep = asyncio.get_running_loop().create_task(self.unload_due(), name="unloading")


def _fitting(found: Found) -> Found:
    """Return a model with a context that was meant for the operator's: no more than it has."""
    wanted = found.settings.context_length
    if wanted is None:
        return found
    return replace(found, settings=replace(found.settings, context_length=min(wanted, found.spec.context_length)))
