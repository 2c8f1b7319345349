"""The adapters of a loaded model: what each is called, where it lies, and who uses it.

A name may come to mean another file; what was asked before then is still answered with the old one. So engines know
adapters by a key that stands for the files, and names are the front's business.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from camelid.errors import InvalidRequest, NotFound
from camelid.formats import Checkpoint
from camelid.models.lora import lora_files, open_lora
from camelid.models.placing_adapters import adapter_bytes
from camelid.models.spec import ModelSpec
from camelid.store.stamps import stamp

from .engine_port import EnginePort
from .frames import Adapt

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as the tags of models are
MAX_ADAPTERS = 256  # of one model: each is a name in every list


@dataclass(frozen=True)
class AdapterFile:
    """An adapter that fits a model. `size_bytes` is the memory that it takes beside the model."""

    name: str
    path: str
    key: str
    size_bytes: int
    rank: int
    loaded_at: float = field(default_factory=time.time)  # Unix time

    @property
    def command(self) -> Adapt:
        """What an engine is told."""
        return Adapt(self.key, self.path)


def key_of(path: Path) -> str:
    """Return what tells the files of an adapter from others that are put in their place. Raises NotFound."""
    files = lora_files(path)
    return blake2b(stamp(files[0], *files[1:]).encode(), digest_size=16).hexdigest()


def look_up_adapter(name: str, path: str, base: Checkpoint, spec: ModelSpec) -> AdapterFile:
    """Read what an adapter is, and check that it fits a model.

    Raises InvalidRequest for its name, NotFound, FormatError, ModelError.
    """
    check_name(name)
    place = Path(path).expanduser()
    if not place.exists():
        raise NotFound(f"the adapter {name} is to lie at {path}, which is not there", hint="give a file or a folder")
    key = key_of(place)
    with open_lora(place) as adapter:
        adapter.check(spec, base.path.name)
        return AdapterFile(name, str(place.resolve()), key, adapter_bytes(adapter, base, spec), adapter.max_rank)


def check_name(name: str) -> None:
    """Raise InvalidRequest for what cannot be an adapter's name."""
    if NAME.fullmatch(name) is None:
        rule = "1–64 letters, digits, dots, dashes and underscores, not beginning with one of the last three"
        raise InvalidRequest(f"an adapter's name has {rule}; got {name!r:.80}", field="adapter")


class ModelAdapters:
    """The adapters of one loaded model, and the engine that computes with them. Belongs to one asyncio loop."""

    def __init__(self, engine: EnginePort, files: Iterable[AdapterFile] = ()) -> None:
        """Take over adapters that the engine was loaded with."""
        self._engine = engine
        self._files = {file.name: file for file in files}
        self._uses: Counter[str] = Counter()  # requests by key

    @property
    def files(self) -> tuple[AdapterFile, ...]:
        """All that can be asked for."""
        return tuple(self._files.values())

    @property
    def size_bytes(self) -> int:
        """Memory that they take."""
        return sum({file.key: file.size_bytes for file in self._files.values()}.values())

    def get(self, name: str) -> AdapterFile:
        """Return an adapter by its name. Raises NotFound."""
        if name not in self._files:
            listed = ", ".join(self._files) or "none"
            raise NotFound(f"there is no adapter {name!r:.80}", hint=f"loaded adapters: {listed}")
        return self._files[name]

    async def add(self, file: AdapterFile) -> None:
        """Have the engine take an adapter in. Raises what opening it there raises, and Unavailable."""
        await self._engine.adapt(file.command)
        old = self._files.get(file.name)
        self._files[file.name] = file
        if old is not None:
            self._drop_unused(old.key)

    def remove(self, name: str) -> None:
        """Take no more requests for an adapter; those that run are finished with it. Raises NotFound."""
        key = self.get(name).key
        del self._files[name]
        self._drop_unused(key)

    def begin(self, key: str) -> None:
        """Note that a request uses an adapter."""
        self._uses[key] += 1

    def end(self, key: str) -> None:
        """Note that such a request has ended."""
        self._uses[key] -= 1
        self._drop_unused(key)

    def _drop_unused(self, key: str) -> None:
        if self._uses[key] <= 0:
            del self._uses[key]
            if all(file.key != key for file in self._files.values()):
                self._engine.forget_adapter(key)
