"""Reads and writes what a checkpoint of PyTorch says in its `data.pkl`: the names of tensors, and where each one lies.

That file is a program for a machine that can call anything. Here it is read without that machine: an interpreter of the
few operations that a mapping of names to tensors needs, for which the only things that can be named are the rebuilding
of a tensor, the kinds of storage and an ordered mapping, all of them plain values of this file. Anything else is an
error that names it. Nothing is imported, looked up or called.

Source: the operations of the protocol as Python's `pickletools` documents them; torch.save's zip format, version 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.errors import FormatError, TruncatedFile, UnsupportedFormat

from .blocks import BlockType

MAX_PROGRAM_BYTES = 16 << 20  # Llama 3.1 405B's has 200 KB
MAX_TENSORS = 1 << 16
MAX_DEPTH = 64

STORAGES = {
    "torch BFloat16Storage": BlockType.BF16,
    "torch HalfStorage": BlockType.F16,
    "torch FloatStorage": BlockType.F32,
}
REBUILD = "torch._utils _rebuild_tensor_v2"
REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
MAPPING = "collections OrderedDict"
KNOWN = frozenset((*STORAGES, REBUILD, REBUILD_PARAMETER, MAPPING))
_HINT = "take the model as safetensors or GGUF: this file holds more than tensors, and could run code elsewhere"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's place: elements from `offset` on in the storage `key`, which has `storage_size` elements."""

    key: str
    block_type: BlockType
    storage_size: int
    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """Something that the program names, such as `torch HalfStorage`."""

    text: str


@dataclass(frozen=True)
class _Storage:
    key: str
    block_type: BlockType
    size: int


class _Mark:
    """Where a run of values begins on the stack."""


def read_names(path: Path, program: bytes) -> dict[str, StoredTensor]:
    """Return the tensors that a `data.pkl` names. Raises FormatError, UnsupportedFormat for anything but tensors."""
    if len(program) > MAX_PROGRAM_BYTES:
        raise FormatError(path, "size of data.pkl", len(program), f"at most {MAX_PROGRAM_BYTES} bytes are read")
    result = _Interpreter(path, program).run()
    if not isinstance(result, dict) or len(result) > MAX_TENSORS:
        raise UnsupportedFormat(
            path, "content", type(result).__name__, "it is a mapping of names to tensors", hint=_HINT
        )
    for name, value in result.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            raise UnsupportedFormat(path, f"entry {name!r:.80}", value, "it is a tensor under its name", hint=_HINT)
    return result


class _Interpreter:
    """A stack, a memory, and the operations that are admitted."""

    def __init__(self, path: Path, program: bytes) -> None:
        self._path, self._program, self._at = path, program, 0
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def run(self) -> Any:
        try:
            while (code := self._take(1)) != b".":
                operation = _OPERATIONS.get(code)
                if operation is None:
                    raise UnsupportedFormat(
                        self._path, "operation in data.pkl", code, "tensors need no such", hint=_HINT
                    )
                operation(self)
            return self._stack.pop()
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
            raise FormatError(self._path, "data.pkl", repr(error)[:100], "its operations fit together") from error

    # ── operands ──

    def _take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._program):
            raise TruncatedFile(self._path, "data.pkl", len(self._program), f"byte {self._at + count} is asked for")
        taken = self._program[self._at : self._at + count]
        self._at += count
        return taken

    def _number(self, count: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(count), "little", signed=signed)

    def _line(self) -> str:
        end = self._program.index(b"\n", self._at)
        return self._take(end + 1 - self._at)[:-1].decode("utf-8")

    def _since_mark(self) -> list[Any]:
        start = max(index for index, value in enumerate(self._stack) if isinstance(value, _Mark))
        values = self._stack[start + 1 :]
        del self._stack[start:]
        return values

    # ── operations ──

    def skip(self, count: int) -> None:
        self._take(count)

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def push_text(self, width: int) -> None:
        self.push(self._take(self._number(width)).decode("utf-8"))

    def push_number(self, width: int, signed: bool) -> None:
        self.push(self._number(width, signed=signed))

    def push_long(self) -> None:
        self.push(self._number(self._number(1), signed=True))

    def push_tuple(self, count: int | None) -> None:
        values = self._since_mark() if count is None else [self._stack.pop() for _ in range(count)][::-1]
        self.push(tuple(values))

    def remember(self, width: int | None) -> None:
        self._memory[len(self._memory) if width is None else self._number(width)] = self._stack[-1]

    def recall(self, width: int) -> None:
        self.push(self._memory[self._number(width)])

    def push_name(self) -> None:
        self.push(self._admitted(f"{self._line()} {self._line()}"))

    def push_stacked_name(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self.push(self._admitted(f"{module} {name}"))

    def _admitted(self, text: str) -> _Name:
        if text not in KNOWN:
            raise UnsupportedFormat(self._path, "name in data.pkl", text, "only tensors are read", hint=_HINT)
        return _Name(text)

    def push_storage(self) -> None:
        """Turn ("storage", kind, key, device, size) into the storage."""
        what, kind, key, _, size = self._stack.pop()
        if what != "storage" or not isinstance(key, str) or not isinstance(size, int) or size < 0:
            raise ValueError("a storage is described by its kind, key, device and size")
        self.push(_Storage(key, STORAGES[kind.text], size))

    def call(self) -> None:
        """Make what a name and its arguments stand for: a tensor, or an empty mapping."""
        arguments, name = self._stack.pop(), self._stack.pop().text
        if name == MAPPING and arguments == ():
            self.push({})
        elif name == REBUILD:
            storage, offset, shape, strides = arguments[:4]
            self.push(self._tensor(storage, offset, shape, strides))
        elif name == REBUILD_PARAMETER and isinstance(arguments[0], StoredTensor):
            self.push(arguments[0])
        else:
            raise ValueError(f"{name} is called with {len(arguments)} values")

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
        whole = all(type(value) is int and value >= 0 for value in (offset, *shape, *strides))
        if not isinstance(storage, _Storage) or not whole or len(shape) > 4 or len(shape) != len(strides):
            raise ValueError("a tensor has a storage, an offset, a shape and strides")
        contiguous = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        if any(stride != dense for stride, dense, size in zip(strides, contiguous, shape, strict=True) if size > 1):
            raise UnsupportedFormat(
                self._path, "strides of a tensor", strides, f"only dense ones, {contiguous}, are read"
            )
        return StoredTensor(storage.key, storage.block_type, storage.size, offset, tuple(shape))

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set(self._stack[-1], [key, value])

    def set_items(self) -> None:
        values = self._since_mark()
        self._set(self._stack[-1], values)

    def _set(self, target: Any, values: list[Any]) -> None:
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("only a mapping takes items, in pairs")
        target.update(zip(values[::2], values[1::2], strict=True))

    def drop_state(self) -> None:
        """Pass over what a module's state dict says of its versions (`_metadata`)."""
        state = self._stack.pop()
        if not isinstance(self._stack[-1], dict) or not isinstance(state, dict):
            raise ValueError("only a mapping has a state")


_OPERATIONS: Mapping[bytes, Callable[[_Interpreter], None]] = {
    b"\x80": lambda machine: machine.skip(1),  # PROTO
    b"\x95": lambda machine: machine.skip(8),  # FRAME
    b"(": lambda machine: machine.push(_Mark()),
    b"}": lambda machine: machine.push({}),
    b")": lambda machine: machine.push(()),
    b"N": lambda machine: machine.push(None),
    b"\x88": lambda machine: machine.push(True),
    b"\x89": lambda machine: machine.push(False),
    b"X": lambda machine: machine.push_text(4),
    b"\x8c": lambda machine: machine.push_text(1),
    b"J": lambda machine: machine.push_number(4, True),
    b"K": lambda machine: machine.push_number(1, False),
    b"M": lambda machine: machine.push_number(2, False),
    b"\x8a": lambda machine: machine.push_long(),
    b"t": lambda machine: machine.push_tuple(None),
    b"\x85": lambda machine: machine.push_tuple(1),
    b"\x86": lambda machine: machine.push_tuple(2),
    b"\x87": lambda machine: machine.push_tuple(3),
    b"q": lambda machine: machine.remember(1),
    b"r": lambda machine: machine.remember(4),
    b"\x94": lambda machine: machine.remember(None),
    b"h": lambda machine: machine.recall(1),
    b"j": lambda machine: machine.recall(4),
    b"c": lambda machine: machine.push_name(),
    b"\x93": lambda machine: machine.push_stacked_name(),
    b"Q": lambda machine: machine.push_storage(),
    b"R": lambda machine: machine.call(),
    b"s": lambda machine: machine.set_item(),
    b"u": lambda machine: machine.set_items(),
    b"b": lambda machine: machine.drop_state(),
}


def write_names(tensors: Mapping[str, StoredTensor]) -> bytes:
    """Return the `data.pkl` of a mapping of names to dense tensors, as torch.load reads it with weights_only."""
    parts = [b"\x80\x02}("]
    for name, tensor in tensors.items():
        parts += [_text(name), _tensor_call(tensor)]
    return b"".join([*parts, b"u."])


def _tensor_call(tensor: StoredTensor) -> bytes:
    kind = next(text for text, block_type in STORAGES.items() if block_type is tensor.block_type)
    strides = tuple(math.prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape)))
    storage = (
        b"(" + _text("storage") + _named(kind) + _text(tensor.key) + _text("cpu") + _whole(tensor.storage_size) + b"t"
    )
    arguments = storage + b"Q" + _whole(tensor.offset) + _tuple(tensor.shape) + _tuple(strides) + b"\x89"
    return _named(REBUILD) + b"(" + arguments + _named(MAPPING) + b")Rt" + b"R"


def _named(text: str) -> bytes:
    module, name = text.split(" ")
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _whole(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_whole, values)) + b"t"
