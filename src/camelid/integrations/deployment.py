"""What is to be deployed somewhere else: a model, how large it is, and how it is served there.

The places (`kubernetes`, `salad`) write it down in their own words; what follows from a model's size is the same
everywhere and stands here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from camelid.errors import InvalidRequest

PORT = 11434
KEEP_ANSWERING_S = 5  # balancers need that long to notice that a server leaves
DRAIN_S = 30
SLOWEST_FETCH = 10 * 10**6  # bytes a second: what a start-up window has to allow for
LOADING_S = 120  # on top of the fetching, on a slow disk
DISK_SHARE = 1.2  # of the model's size: parts of a fetch, and what the file system takes

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])")


@dataclass(frozen=True)
class Deployment:
    """A model to be served in `replicas` places. Sizes are bytes; `cpus` whole processors for each replica."""

    name: str
    model: str
    image: str
    model_bytes: int
    memory_bytes: int
    context_length: int
    replicas: int = 2
    cpus: int = 4
    gpus: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidRequest(
                f"a deployment's name has 2–63 letters, digits and hyphens and begins with a letter, got {self.name!r}",
                field="name",
                hint="give one: --name llama",
            )
        for what in ("replicas", "cpus"):
            if getattr(self, what) < 1:
                raise InvalidRequest(f"{what} must be at least 1, got {getattr(self, what)}", field=what)

    @property
    def disk_bytes(self) -> int:
        """Disk that the model takes while it is fetched and afterwards."""
        return math.ceil(self.model_bytes * DISK_SHARE)

    @property
    def start_s(self) -> int:
        """Seconds until a replica must have started: the model fetched on a slow line and loaded, at least 20 min."""
        return max(1200, math.ceil(self.model_bytes / SLOWEST_FETCH) + LOADING_S)


def name_for(model: str) -> str:
    """Return a name for the deployment of a model: `llama3-1-8b` for `llama3.1:8b`."""
    last = model.rsplit("/", 1)[-1].lower()
    plain = re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:50].rstrip("-")
    return plain if _NAME.fullmatch(plain) else f"model-{plain}".rstrip("-")


def gibibytes(size: int) -> int:
    """Return a size in whole GiB, rounded up."""
    return max(1, math.ceil(size / 2**30))
