"""What a container on SaladCloud tells the machine that it runs on, and is told: the instance metadata service.

A machine of Salad's is somebody's PC. One that cannot run the model is left (`reallocate`), and a busy replica asks to
be removed later than an idle one (`deletion cost`). The service is at a link-local address, refuses whatever a proxy
has touched, and is spoken to past every proxy. Source: Salad's documentation of the service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from camelid.errors import CamelidError, InvalidRequest, InvalidSetting, NotFound, RegistryError, Unavailable

ADDRESS = "http://169.254.169.254:80"
TIMEOUT_S = 5.0
MAX_REASON = 1000
EVERY_S = 15.0
COST_OF_AN_ANSWER = 100  # of each that is running; an idle replica costs nothing
MOST_COST = 2**31 - 1
# What another machine would not do better: the operator asked for something that cannot be, or a registry failed.
_NOT_THE_MACHINE = (InvalidSetting, InvalidRequest, NotFound, RegistryError)
Beside = Callable[[], Coroutine[Any, Any, None]]
_logger = logging.getLogger("camelid.salad")


@dataclass(frozen=True)
class Probes:
    """What the probes of this instance say."""

    ready: bool
    started: bool


class Metadata:
    """The service, as this instance sees it. Every call raises Unavailable when it cannot be reached or refuses."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._client = httpx2.Client(
            base_url=address, headers={"metadata": "true"}, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False
        )

    def probes(self) -> Probes:
        """Return what Salad's probes found last."""
        told = self._ask("GET", "/v1/status")
        return Probes(bool(told.get("ready")), bool(told.get("started")))

    def reallocate(self, reason: str) -> None:
        """Move to another machine; this one is avoided for a while. The container ends soon after."""
        self._ask("POST", "/v1/reallocate", {"reason": reason[:MAX_REASON] or "no reason was given"})

    def set_deletion_cost(self, cost: int) -> None:
        """Say how much would be lost with this instance: the lowest cost goes first when there are too many."""
        self._ask("PUT", "/v1/deletion-cost", {"deletion_cost": max(0, min(cost, MOST_COST))})

    def deletion_cost(self) -> int:
        """Return what was said of it."""
        return int(self._ask("GET", "/v1/deletion-cost").get("deletion_cost", 0))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        try:
            answer = self._client.request(method, path, json=body)
            told = answer.json() if answer.content else {}
        except (httpx2.HTTPError, ValueError) as error:
            raise Unavailable(f"Salad's metadata service does not answer: {type(error).__name__}") from error
        if answer.is_error or not isinstance(told, dict):
            title = told.get("title") if isinstance(told, dict) else None
            raise Unavailable(f"Salad's metadata service refused {method} {path}: {answer.status_code} {title or ''}")
        return told


def is_here(environment: Mapping[str, str]) -> bool:
    """Tell whether this process runs in a container of Salad's."""
    return bool(environment.get("SALAD_MACHINE_ID") and environment.get("SALAD_CONTAINER_GROUP_ID"))


@contextmanager
def on_salad(environment: Mapping[str, str], num_running: Callable[[], int]) -> Iterator[list[Beside]]:
    """Yield what is to be done beside serving, in a container of Salad's; elsewhere nothing.

    A CamelidError that ends the block may have the machine left, and is raised again.
    """
    if not is_here(environment):
        yield []
        return
    metadata = metadata_of(environment)
    try:
        yield [partial(keep_deletion_cost, metadata, num_running)]
    except CamelidError as error:
        leave_if_unfit(metadata, error)
        raise
    finally:
        metadata.close()


def metadata_of(environment: Mapping[str, str]) -> Metadata:
    """Return the service, at the address that the environment names."""
    return Metadata(environment.get("SALAD_METADATA_URI") or ADDRESS)


def leave_if_unfit(metadata: Metadata, error: CamelidError) -> bool:
    """Ask for another machine where `error` may be this one's fault. Return whether that was asked."""
    if isinstance(error, _NOT_THE_MACHINE):
        return False
    try:
        metadata.reallocate(f"camelid could not serve: {error.message}")
    except Unavailable as unreachable:
        _logger.warning("%s", unreachable.message)
        return False
    _logger.error("asked for another machine: %s", error.message)
    return True


async def keep_deletion_cost(metadata: Metadata, num_running: Callable[[], int], every_s: float = EVERY_S) -> None:
    """Tell the service, whenever it changes, how much is running here; until cancelled."""
    said: int | None = None
    while True:
        cost = num_running() * COST_OF_AN_ANSWER
        if cost != said:
            try:
                await asyncio.to_thread(metadata.set_deletion_cost, cost)
                said = cost
            except Unavailable as error:
                _logger.warning("%s", error.message)
        await asyncio.sleep(every_s)
