"""Bytes on disk, and the named tensors and metadata in them. Knows nothing of running a model."""

from .blocks import BlockType, decode, encode, row_bytes
from .checkpoint import Checkpoint, TensorInfo, read
from .gguf import GgufCheckpoint
from .gguf_values import Typed, ValueType
from .gguf_writer import TensorSource, tensor_from_raw, tensor_from_values, write_gguf
from .opening import open_checkpoint
from .safetensors import SafetensorsCheckpoint, write_safetensors
from .shards import ShardedCheckpoint

__all__ = [
    "BlockType",
    "Checkpoint",
    "GgufCheckpoint",
    "SafetensorsCheckpoint",
    "ShardedCheckpoint",
    "TensorInfo",
    "TensorSource",
    "Typed",
    "ValueType",
    "decode",
    "encode",
    "open_checkpoint",
    "read",
    "row_bytes",
    "tensor_from_raw",
    "tensor_from_values",
    "write_gguf",
    "write_safetensors",
]
