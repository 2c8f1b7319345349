"""Where a model goes, how large its cache is, and which idle models leave to make room: decided before anything is
loaded.

Plain arithmetic over what was measured; nothing here measures, opens or unloads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from camelid.errors import OutOfMemory
from camelid.models.memory import MemoryNeed
from camelid.models.spec import ModelSpec
from camelid.settings import ModelSettings
from camelid.store.local import ModelFiles

from .adapters import AdapterFile
from .model import Description
from .sizing import choose_sizing

COMFORTABLE_CONTEXT = 8192  # tokens; rather than squeeze a newcomer below it, idle models leave
EAGER = "gpu"  # the device whose memory is taken at once; elsewhere it is taken when it is first touched

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Option:
    """A device that a model may go to: what it needs there, and how much is free as the system sees it."""

    device: str
    need: MemoryNeed
    free_bytes: int


@dataclass(frozen=True)
class Found:
    """What is known of a model before it has a place. `options` are in the order of preference."""

    files: ModelFiles
    stamp: str  # of the files, taken before they were read
    spec: ModelSpec
    num_parameters: int
    options: tuple[Option, ...]
    settings: ModelSettings  # what an operator and the model's makers say
    adapters: tuple[AdapterFile, ...] = ()  # that requests may choose; counted in `options`
    draft: tuple[str, ...] = ()  # the weights of a draft model and its adapters; counted in `options`


@dataclass(frozen=True)
class Tenant:
    """A loaded model as memory sees it. `promised_bytes` is what it takes when all of its cache is in use.

    `vacant_bytes` was free on its device when nothing was loaded there.
    """

    name: str
    device: str
    promised_bytes: int
    vacant_bytes: int
    may_leave: bool


@dataclass(frozen=True)
class Placement:
    """What was decided: the model with its device and sizes, and who leaves before it is loaded."""

    description: Description
    leaving: tuple[str, ...] = ()


def place(found: Found, tenants: Sequence[Tenant] = (), most_models: int | None = None) -> Placement:
    """Choose a place. Tenants that may leave do so in their order, and no more of them than are needed.

    Raises InvalidSetting, and OutOfMemory when it does not fit even if they all leave, or when `most_models` stay.
    """
    settings = found.settings
    idle = [tenant for tenant in tenants if tenant.may_leave]
    fitting: Placement | None = None
    refusal: OutOfMemory | None = None
    for count in range(len(idle) + 1):
        leaving = idle[:count]
        staying = [tenant for tenant in tenants if tenant not in leaving]
        try:
            _check_number(staying, most_models)
            description = _fit(found, settings, staying, leaving)
        except OutOfMemory as error:
            refusal = error
            continue
        placement = Placement(description, tuple(tenant.name for tenant in leaving))
        if not _is_squeezed(description, settings):
            return placement
        fitting = fitting or placement
    if fitting is not None:
        return fitting
    assert refusal is not None  # the loop runs at least once
    raise refusal


def _check_number(staying: Sequence[Tenant], most_models: int | None) -> None:
    if most_models is not None and len(staying) >= most_models:
        raise OutOfMemory(
            f"{len(staying)} models are loaded, which is the most, and all of them are in use",
            hint="try again later, or raise --max-loaded-models",
        )


def _fit(found: Found, settings: ModelSettings, staying: Sequence[Tenant], leaving: Sequence[Tenant]) -> Description:
    """Choose the first device that the model fits on. Raises what choosing sizes raises."""
    *others, last = found.options
    for option in others:
        try:
            return _sized(found, option, settings, staying, leaving)
        except OutOfMemory as error:
            _log.info("not on the %s: %s", option.device, error.message)
    return _sized(found, last, settings, staying, leaving)


def _sized(
    found: Found, option: Option, settings: ModelSettings, staying: Sequence[Tenant], leaving: Sequence[Tenant]
) -> Description:
    vacant = _vacant(option, (*staying, *leaving))
    free = free_bytes(option, vacant, staying, leaving)
    own = replace(settings, device=option.device)
    sizing = choose_sizing(option.need, free, found.spec.context_length, own)
    return Description(
        found.files, found.spec, found.num_parameters, own, sizing, found.stamp, vacant, found.adapters, found.draft
    )


def free_bytes(option: Option, vacant: int, staying: Sequence[Tenant], leaving: Sequence[Tenant]) -> int:
    """Return what is free for a newcomer when every cache of those who stay is in use.

    A GPU's memory is taken at once, so what is measured is right, and who leaves gives back. Elsewhere caches are taken
    page by page, and weights are file cache, which systems count as free or not in their own ways: what was free when
    nothing was loaded, less all promises, is right if nothing else has changed, and is kept within the bounds of
    promises that are not touched at all and promises that are touched in full.
    """
    if option.device == EAGER:
        return option.free_bytes + _promised(option, leaving)
    promised = _promised(option, staying)
    return max(0, option.free_bytes - promised, min(vacant - promised, option.free_bytes))


def _vacant(option: Option, tenants: Iterable[Tenant]) -> int:
    known = (tenant.vacant_bytes for tenant in tenants if tenant.device == option.device)
    return next(known, option.free_bytes)


def _promised(option: Option, tenants: Iterable[Tenant]) -> int:
    return sum(tenant.promised_bytes for tenant in tenants if tenant.device == option.device)


def _is_squeezed(description: Description, settings: ModelSettings) -> bool:
    if description.spec.encoder is not None:
        return False
    wanted = settings.context_length or min(description.spec.context_length, COMFORTABLE_CONTEXT)
    return settings.cache_memory is None and description.sizing.context_length < wanted
