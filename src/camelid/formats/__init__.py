"""Bytes on disk, and the named tensors and metadata in them. Knows nothing of running a model."""

from .blocks import BlockType, decode, encode, row_bytes
from .checkpoint import Checkpoint, TensorInfo, read

__all__ = ["BlockType", "Checkpoint", "TensorInfo", "decode", "encode", "read", "row_bytes"]
