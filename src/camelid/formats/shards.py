"""Several weights files as one checkpoint, whatever their format.

A sharded set is a folder with an index (safetensors) or files numbered in their names (GGUF); either way one view over
parts that are checkpoints themselves. How the parts are found is at the end; the class knows no format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import FormatError, NotFound

from .checkpoint import Checkpoint, TensorInfo, no_such_tensor
from .gguf import GgufCheckpoint
from .json_file import load_json
from .safetensors import SafetensorsCheckpoint

MAX_SHARDS = 1 << 10
GGUF_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


class ShardedCheckpoint:
    """Checkpoints as one: `owners` says which part holds each tensor."""

    def __init__(
        self, path: Path, metadata: Mapping[str, Any], parts: Sequence[Checkpoint], owners: Mapping[str, Checkpoint]
    ) -> None:
        self._path, self._parts, self._owners = path, parts, owners
        self._metadata = MappingProxyType(dict(metadata))
        self._tensors = MappingProxyType({name: owner.tensors[name] for name, owner in owners.items()})

    @property
    def path(self) -> Path:
        return self._path

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._metadata

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def raw(self, name: str) -> NDArray[np.uint8]:
        if name not in self._owners:
            raise no_such_tensor(self, name)
        return self._owners[name].raw(name)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def __enter__(self) -> ShardedCheckpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_indexed_safetensors(index_path: Path, metadata: Mapping[str, Any]) -> ShardedCheckpoint:
    """Open the shards that an index names. The index decides: a tensor that it does not list is left out.

    Raises FormatError when the index names a file outside its folder, or a tensor that its shard does not hold.
    """
    weight_map = _read_weight_map(index_path)
    files = sorted(set(weight_map.values()))
    if len(files) > MAX_SHARDS:
        raise FormatError(index_path, "number of shards", len(files), f"at most {MAX_SHARDS} are read")
    parts = {file: _open_shard(index_path, file) for file in files}
    for name, file in weight_map.items():
        if name not in parts[file].tensors:
            raise FormatError(index_path, f"shard of tensor {name!r}", file, "that file does not hold it")
    owners = {name: parts[file] for file in files for name in parts[file].tensors if weight_map.get(name) == file}
    return ShardedCheckpoint(index_path.parent, metadata, list(parts.values()), owners)


def _read_weight_map(index_path: Path) -> dict[str, str]:
    weight_map = load_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(index_path, "weight_map", weight_map, "it maps the names of tensors to files")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _is_plain_name(file):
            raise FormatError(
                index_path, f"shard of tensor {name!r}", file, "it is the name of a file beside the index"
            )
    return weight_map


def _is_plain_name(file: str) -> bool:
    is_name = file == PurePosixPath(file).name == PureWindowsPath(file).name
    return is_name and file.endswith(".safetensors") and file.isprintable()


def _open_shard(index_path: Path, file: str) -> Checkpoint:
    try:
        return SafetensorsCheckpoint(index_path.parent / file)
    except NotFound as error:
        rule = "that file is not there"
        raise FormatError(index_path, "shard", file, rule, hint="download the missing shard") from error


def open_split_gguf(first: GgufCheckpoint) -> Checkpoint:
    """Return the whole set that a GGUF file begins, or the file itself where it is whole.

    Raises FormatError when the file is not the first of its set, a part is missing, or the counts disagree.
    """
    count = first.metadata.get("split.count", 1)
    if count in (0, 1):
        return first
    parts = [first, *(_open_split(first, number, count) for number in range(1, _split_count(first, count)))]
    owners: dict[str, Checkpoint] = {}
    for part in parts:
        _merge(owners, part)
    expected = first.metadata.get("split.tensors.count")
    if expected != len(owners):
        raise FormatError(first.path, "split.tensors.count", expected, f"the parts hold {len(owners)} tensors")
    return ShardedCheckpoint(first.path, first.metadata, parts, owners)


def _split_count(first: GgufCheckpoint, count: object) -> int:
    match = GGUF_SHARD.fullmatch(first.path.name)
    if not isinstance(count, int) or not 1 < count <= MAX_SHARDS:
        raise FormatError(first.path, "split.count", count, f"it is a number from 2 to {MAX_SHARDS}")
    if match is None or int(match["count"]) != count:
        rule = f"a part of {count} is named like name-00001-of-{count:05d}.gguf"
        raise FormatError(first.path, "name of the file", first.path.name, rule, hint="give it its original name")
    if first.metadata.get("split.no") != 0 or int(match["number"]) != 1:
        start = f"{match['stem']}-00001-of-{match['count']}.gguf"
        raise FormatError(
            first.path,
            "split.no",
            first.metadata.get("split.no"),
            "a set is opened by its first file",
            hint=f"open {start}",
        )
    return count


def _open_split(first: GgufCheckpoint, number: int, count: int) -> GgufCheckpoint:
    stem = first.path.name.removesuffix(f"-00001-of-{count:05d}.gguf")
    path = first.path.with_name(f"{stem}-{number + 1:05d}-of-{count:05d}.gguf")
    try:
        part = GgufCheckpoint(path)
    except NotFound as error:
        rule = f"{path.name} is not there"
        raise FormatError(first.path, "split.count", count, rule, hint="download the missing part") from error
    for key, expected in (("split.no", number), ("split.count", count)):
        if part.metadata.get(key) != expected:
            raise FormatError(path, key, part.metadata.get(key), f"{first.path.name} expects {expected} here")
    return part


def _merge(owners: dict[str, Checkpoint], part: Checkpoint) -> None:
    for name in part.tensors:
        if name in owners:
            raise FormatError(part.path, "name of a tensor", name, f"{owners[name].path.name} holds it too")
        owners[name] = part
