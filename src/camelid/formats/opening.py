"""Opens whatever weights lie at a path, and says what is there when it is something else.

The first bytes decide, never a file's name. This is the one file of the room that knows all formats, and those that
are refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from camelid.errors import FormatError, UnsupportedFormat

from .checkpoint import Checkpoint
from .gguf import GgufCheckpoint
from .gguf_header import MAGIC
from .json_file import load_json
from .mapping import cannot_open, map_file
from .meta_folder import MetaCheckpoint, own_folder
from .safetensors import SafetensorsCheckpoint
from .shards import open_indexed_safetensors, open_split_gguf

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"

_TO_SAFETENSORS = "take the model as safetensors or GGUF: loading a pickle can run any code that its author put in it"
_META_FOLDER = "of Meta's models (consolidated.*.pth with params.json) give the folder; of others, safetensors or GGUF"
_OLD_GGML = "convert the model again, to GGUF"

# What else people have at hand, by first bytes: what it is called, and what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive, as PyTorch writes its .pth, .pt and .bin checkpoints", _META_FOLDER),
    (b"\x80\x02", "a Python pickle", _TO_SAFETENSORS),
    (b"\x80\x03", "a Python pickle", _TO_SAFETENSORS),
    (b"\x80\x04", "a Python pickle", _TO_SAFETENSORS),
    (b"\x80\x05", "a Python pickle", _TO_SAFETENSORS),
    (b"lmgg", "a GGML file, GGUF's forerunner of 2023", _OLD_GGML),
    (b"fmgg", "a GGMF file, GGUF's forerunner of 2023", _OLD_GGML),
    (b"tjgg", "a GGJT file, GGUF's forerunner of 2023", _OLD_GGML),
    (b"algg", "a GGLA adapter, GGUF's forerunner of 2023", _OLD_GGML),
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it points to", "run: git lfs pull"),
    (b"<", "a web page or XML", "download the file itself, not the page about it"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", "take the model as safetensors or GGUF"),
)


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a GGUF file, the first file of a split GGUF, a safetensors file, a folder with safetensors, or one of Meta's
    with consolidated.*.pth and params.json.

    The metadata of a folder, and of a safetensors file beside a config.json, is that config.json.
    Raises NotFound, FormatError when the content breaks its format, UnsupportedFormat when it is of another kind.
    """
    path = Path(path)
    try:
        return _open_folder(path) if path.is_dir() else _open_file(path)
    except OSError as error:
        raise cannot_open(path, error) from error


def _open_file(path: Path) -> Checkpoint:
    head = map_file(path)[:32].tobytes()
    if head[:4] == MAGIC:
        return open_split_gguf(GgufCheckpoint(path))
    if head[8:9] == b"{":
        config = path.with_name(CONFIG)
        return SafetensorsCheckpoint(path, load_json(config) if config.is_file() else None)
    for start, name, hint in _OTHERS:
        if head.startswith(start):
            raise UnsupportedFormat(path, "kind of file", name, "only GGUF and safetensors are read", hint=hint)
    rule = "a GGUF file begins with b'GGUF', and a safetensors file has b'{' as its ninth byte"
    raise UnsupportedFormat(path, "beginning", head[:16], rule, hint="check that the download is complete")


def _open_folder(folder: Path) -> Checkpoint:
    index, single = folder / INDEX, folder / SINGLE
    if index.is_file():
        return open_indexed_safetensors(index, _config(folder))
    if single.is_file():
        return SafetensorsCheckpoint(single, _config(folder))
    if (own := own_folder(folder)) is not None:
        return MetaCheckpoint(own)
    raise _nothing_in(folder)


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        rule = f"it needs {CONFIG} beside the weights"
        raise FormatError(folder, "content of the folder", "no config.json", rule, hint="download config.json as well")
    return load_json(folder / CONFIG)


def _nothing_in(folder: Path) -> UnsupportedFormat:
    """Return the error for a folder without safetensors, with a hint that depends on what it does hold."""
    names = sorted(entry.name for entry in folder.iterdir())
    ggufs = [name for name in names if name.endswith(".gguf")]
    pickles = [name for name in names if name.endswith((".pth", ".pt", ".bin"))]
    hint = "name a folder that holds a model in safetensors, or a GGUF file"
    if ggufs:
        hint = f"name the file: {folder / ggufs[0]}"
    elif pickles:
        hint = f"{pickles[0]} is a pickle; {_TO_SAFETENSORS}"
    found = ", ".join(names[:6]) or "nothing"
    return UnsupportedFormat(folder, "content of the folder", found, f"it needs {SINGLE} or {INDEX}", hint=hint)
