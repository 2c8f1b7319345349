"""Bytes on disk, and the named tensors and metadata in them. Knows nothing of running a model."""

from .blocks import BlockType, decode, encode, row_bytes
from .checkpoint import Checkpoint, TensorInfo, read
from .gguf import GgufCheckpoint
from .gguf_values import Typed, ValueType
from .gguf_writer import TensorSource, tensor_from_raw, tensor_from_values, write_gguf

__all__ = [
    "BlockType",
    "Checkpoint",
    "GgufCheckpoint",
    "TensorInfo",
    "TensorSource",
    "Typed",
    "ValueType",
    "decode",
    "encode",
    "read",
    "row_bytes",
    "tensor_from_raw",
    "tensor_from_values",
    "write_gguf",
]
