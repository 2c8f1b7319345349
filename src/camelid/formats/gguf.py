"""GGUF files as checkpoints: the tensors' bytes, handed out as views of the mapped file.

Parsing is in `gguf_header.py`; this file holds what has passed it. It knows no architecture and no key's meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import TensorInfo, as_rows, no_such_tensor
from .gguf_header import parse_header
from .gguf_values import Typed
from .mapping import map_file


class GgufCheckpoint:
    """One opened GGUF file."""

    def __init__(self, path: Path) -> None:
        """Map and check a file. Raises NotFound, or FormatError with the field, its value and the rule it breaks."""
        self._data: NDArray[np.uint8] | None = map_file(path)
        header = parse_header(path, self._data)
        self._path, self._starts = path, header.starts
        self._tensors = MappingProxyType(header.tensors)
        self._typed = MappingProxyType(header.metadata)
        self._metadata = MappingProxyType({key: typed.value for key, typed in header.metadata.items()})
        self.version = header.version

    @property
    def path(self) -> Path:
        return self._path

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The key-values as Python values. Arrays are read-only sequences over the file, equal to lists of the same."""
        return self._metadata

    @property
    def typed_metadata(self) -> Mapping[str, Typed]:
        """The key-values with the types that they have in the file, as `write_gguf` takes them."""
        return self._typed

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def raw(self, name: str) -> NDArray[np.uint8]:
        if name not in self._tensors:
            raise no_such_tensor(self, name)
        if self._data is None:
            raise ValueError(f"{self._path} is closed")
        return as_rows(self._data, self._starts[name], self._tensors[name])

    def close(self) -> None:
        self._data = None

    def __enter__(self) -> GgufCheckpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
