"""What the front and the engine process say to each other, and how it is packed: a length, then a MessagePack value
of a known type.

Both ends are ours, and still nothing is believed: a length is capped before anything is allocated, a message is
checked against its type, and what does not fit is a `ProtocolError`. Nothing here can carry code. This file knows no
sockets: bytes in, messages out.
"""

from __future__ import annotations

import logging
import struct
from typing import Generic, TypeVar

import msgspec

from camelid.engine.request import Embedded, EmbedRequest, GenerateRequest, Token
from camelid.errors import CamelidError, ProtocolError
from camelid.grammar.vocabulary import Vocabulary
from camelid.settings import ModelSettings

from .failure import Failure

# A 128K-token prompt is about 0.7 MB; this leaves room and still bounds what a broken peer can make us allocate.
MAX_FRAME_BYTES = 64 * 2**20
_LENGTH = struct.Struct("<I")

_Message = TypeVar("_Message")


class Adapt(msgspec.Struct, frozen=True, tag="adapt"):
    """Take in an adapter, which requests name by `key`: it tells the files at `path` from others that follow them."""

    key: str
    path: str


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Open this model. The first message, and sent once.

    `stamp` is that of the files that the front has read: weights that were changed since do not fit its tokenizer and
    could not go on with the answers of an engine that died.
    """

    path: str
    settings: ModelSettings
    num_pages: int
    context_length: int
    stamp: str | None = None
    log_level: int = logging.INFO
    adapters: tuple[str, ...] = ()  # merged into the weights
    choosable: tuple[Adapt, ...] = ()  # adapters that requests may name
    draft: tuple[str, ...] = ()  # the weights of a draft model, and adapters to be merged into them


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Start a request. One that was admitted before, by an engine that died, waits for room and is never refused."""

    request: GenerateRequest
    was_admitted: bool = False


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Make vectors of texts."""

    request: EmbedRequest


class Learn(msgspec.Struct, frozen=True, tag="learn"):
    """Take this vocabulary, without which no grammar can be followed. Sent once, before the first request with one."""

    vocabulary: Vocabulary


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """Forget a request, or one choice of it, and free what it holds. What is unknown is ignored: it may have ended."""

    request_id: str
    choice: int | None = None


class ForgetAdapter(msgspec.Struct, frozen=True, tag="forget_adapter"):
    """Drop an adapter that no request is going to name any more."""

    key: str


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """How far loading is, in words."""

    stage: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded and has made a first token; `step_seconds` is what one step of one token took."""

    backend: str
    step_seconds: float


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """The model cannot be loaded; the engine process leaves after this."""

    failure: Failure


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The engine took a request in."""

    request_id: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The engine did not take a request in, or gave it up."""

    request_id: str
    failure: Failure


class Adapted(msgspec.Struct, frozen=True, tag="adapted"):
    """An adapter is there, or cannot be."""

    key: str
    failure: Failure | None = None


class Logged(msgspec.Struct, frozen=True, tag="logged"):
    """A log record of the engine process, for the front to log: how it is shown is decided in one place."""

    logger: str
    level: int
    message: str


class Stepped(msgspec.Struct, frozen=True, tag="stepped"):
    """All that one step made. The only message in the steady state."""

    step: int
    seconds: float
    tokens: list[Token]
    stats: dict[str, float]


class Read(msgspec.Struct, frozen=True, tag="read"):
    """What one step for texts completed, often nothing. `step` counts the engine's steps of both kinds."""

    step: int
    seconds: float
    complete: list[Embedded]
    stats: dict[str, float]


class Idle(msgspec.Struct, frozen=True, tag="idle"):
    """There is nothing to do, and the engine is well."""

    step: int
    stats: dict[str, float]


Command = Load | Submit | Learn | Embed | Abort | Adapt | ForgetAdapter
Report = Loading | Ready | LoadFailed | Accepted | Failed | Stepped | Read | Idle | Logged | Adapted

_encoder = msgspec.msgpack.Encoder()
command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
report_decoder: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def pack(message: msgspec.Struct) -> bytes:
    """Return one frame. Raises ProtocolError if the message is over the cap."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame must have at most {MAX_FRAME_BYTES} bytes, this one has {len(body)}")
    return _LENGTH.pack(len(body)) + body


class Unpacker(Generic[_Message]):
    """Cuts a stream of bytes, in whatever pieces it comes, into messages of one decoder's type."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[_Message]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[_Message]:
        """Take bytes in and return the messages that they complete. Raises ProtocolError."""
        self._buffer += data
        messages: list[_Message] = []
        start = 0
        while (end := self._frame_end(start)) is not None:
            messages.append(self._decode(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    def finish(self) -> None:
        """Say that the stream ended. Raises ProtocolError if it ended inside a frame."""
        if self._buffer:
            raise ProtocolError(f"the stream ended inside a frame, {len(self._buffer)} bytes into it")

    def _frame_end(self, start: int) -> int | None:
        if len(self._buffer) - start < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame must have at most {MAX_FRAME_BYTES} bytes, {length} were announced")
        end = start + _LENGTH.size + length
        return end if end <= len(self._buffer) else None

    def _decode(self, body: bytes) -> _Message:
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, CamelidError) as error:  # malformed, of another type, or a value that cannot be
            raise ProtocolError(f"a frame of {len(body)} bytes is not a known message: {error}") from error
