"""Which models are in memory, who uses them, and when each of them leaves.

Bookkeeping apart from loading, so that its rules can be tested without a model and without waiting: every call is given
the time. It holds names and numbers only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ARRIVAL_S = 10.0  # a request that asked for a model begins within this, or the model need not wait for it


@dataclass
class Resident:
    """A model in memory.

    `usual_keep_s` is how long it stays behind its last request, `keep_s` what the latest request asked for.
    `num_arriving` requests have asked for it and not begun yet.
    """

    usual_keep_s: float
    keep_s: float
    used_at_s: float
    num_requests: int = 0
    num_arriving: int = 0
    arrived_by_s: float = -math.inf

    def is_idle(self, now_s: float) -> bool:
        """Whether nobody uses it or is about to."""
        return self.num_requests == 0 and not (self.num_arriving > 0 and now_s < self.arrived_by_s)

    def leaves_at_s(self, now_s: float) -> float:
        """Return when it leaves, if nobody asks for it any more."""
        since_s = self.used_at_s if self.num_requests == 0 else now_s
        leaves_s = since_s + self.keep_s
        return max(leaves_s, self.arrived_by_s) if self.num_arriving > 0 else leaves_s


class Residents:
    """All models in memory, by name."""

    def __init__(self) -> None:
        self._all: dict[str, Resident] = {}

    def add(self, name: str, keep_s: float, now_s: float) -> None:
        """Take a model in that stays `keep_s` seconds behind each request, unless the request says otherwise."""
        self._all[name] = Resident(keep_s, keep_s, now_s)

    def remove(self, name: str) -> None:
        """Forget a model."""
        self._all.pop(name, None)

    def ask(self, name: str, keep_s: float | None, now_s: float) -> None:
        """Note that a request is going to use a model, and how long it wants it kept (None: as usual)."""
        self.keep(name, keep_s, now_s)
        self._all[name].num_arriving += 1
        self._all[name].arrived_by_s = now_s + ARRIVAL_S

    def keep(self, name: str, keep_s: float | None, now_s: float) -> None:
        """Keep a model so long from now on (None: as usual)."""
        resident = self._all[name]
        resident.keep_s = resident.usual_keep_s if keep_s is None else keep_s
        resident.used_at_s = now_s

    def begin(self, name: str, now_s: float) -> None:
        """Note that a request begins."""
        resident = self._all[name]
        resident.num_requests += 1
        resident.num_arriving = max(resident.num_arriving - 1, 0)
        resident.used_at_s = now_s

    def end(self, name: str, now_s: float) -> None:
        """Note that a request has ended; the model may be gone by then."""
        resident = self._all.get(name)
        if resident is not None:
            resident.num_requests = max(resident.num_requests - 1, 0)
            resident.used_at_s = now_s

    def release(self, name: str) -> None:
        """Let a model leave as soon as nobody uses it."""
        resident = self._all[name]
        resident.keep_s, resident.num_arriving = 0.0, 0

    def due(self, now_s: float) -> list[str]:
        """Return the models whose time is over."""
        return [name for name, one in self._all.items() if one.num_requests == 0 and one.leaves_at_s(now_s) <= now_s]

    def next_due_s(self, now_s: float) -> float:
        """Return when the next model leaves; infinite if none does, as things are."""
        times = (one.leaves_at_s(now_s) for one in self._all.values() if one.num_requests == 0)
        return min(times, default=math.inf)

    def leaves_at_s(self, name: str, now_s: float) -> float:
        """Return when a model leaves if nobody asks for it any more; infinite if it does not."""
        return self._all[name].leaves_at_s(now_s)

    def num_requests(self, name: str) -> int:
        """Return how many requests use a model."""
        return self._all[name].num_requests

    def by_age(self, now_s: float) -> list[tuple[str, bool]]:
        """Return all models in the order in which they make room, and whether each may leave now.

        The one that was unused for longest goes first; those that are kept for ever go last.
        """
        order = sorted(self._all.items(), key=lambda item: (item[1].keep_s == math.inf, item[1].used_at_s))
        return [(name, one.is_idle(now_s)) for name, one in order]
