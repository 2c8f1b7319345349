"""POST /api/create: its body, and the Modelfile that it amounts to.

What cannot be done is refused by name, in Ollama's words where it has some. Source: the API of Ollama 0.33.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from msgspec import Struct

from camelid.errors import InvalidRequest, NotFound, UnsupportedModel
from camelid.store.blobs import Blobs, Digest, parse_digest
from camelid.store.modelfile import BOOLEANS, FLOATS, INTEGERS, LISTS, ROLES, Modelfile, Value
from camelid.store.names import parse_name

MAGIC = b"GGUF"
REFUSED = ("renderer", "parser", "draft_files", "draft_quantize", "remote_host", "info")


class MessageBody(Struct):
    """A message that every conversation begins with."""

    role: str
    content: str = ""


class CreateBody(Struct, rename={"from_": "from"}):
    """POST /api/create. `name`, `quantization` and `modelfile` are older words."""

    model: str = ""
    name: str = ""
    from_: str = ""
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    system: str | None = None
    license: str | list[str] | None = None
    parameters: dict[str, Any] | None = None
    messages: list[MessageBody] | None = None
    quantize: str | None = ""  # older clients send null
    quantization: str | None = ""
    requires: str | None = None
    modelfile: str = ""
    stream: bool = True
    renderer: Any = None
    parser: Any = None
    draft_files: Any = None
    draft_quantize: Any = None
    remote_host: Any = None
    info: Any = None


def check(body: CreateBody) -> None:
    """Refuse what cannot be made, before anything is done. Raises InvalidRequest."""
    if not body.from_ and not body.files:
        raise InvalidRequest("neither 'from' or 'files' was specified", field="from")
    if body.from_ and body.files:
        raise InvalidRequest("from and files together are not supported", field="files")
    for field in REFUSED:
        if getattr(body, field):
            raise InvalidRequest(f"{field} is not supported", field=field)
    if body.from_:
        try:
            parse_name(body.from_)
        except InvalidRequest as error:
            raise InvalidRequest("invalid model name", field="from") from error
    if len(body.adapters or {}) > 1:
        raise InvalidRequest("only one adapter is currently supported", field="adapters")


def to_modelfile(body: CreateBody, blobs: Blobs) -> Modelfile:
    """Return the Modelfile that `body` amounts to. Raises InvalidRequest, NotFound, UnsupportedModel."""
    return Modelfile(
        base=body.from_ or str(blobs.path(_weights(body.files or {}, blobs))),
        parameters=tuple(_parameters(body.parameters or {})),
        template=body.template,
        system=body.system,
        adapters=tuple(str(blobs.path(_present(name, text, blobs))) for name, text in (body.adapters or {}).items()),
        licenses=_licenses(body.license),
        messages=tuple(_message(message) for message in body.messages or ()),
        requires=body.requires,
    )


def _weights(files: dict[str, str], blobs: Blobs) -> Digest:
    """Return the one GGUF file. Raises InvalidRequest for a name that leads elsewhere, or a file of another format."""
    for name in files:
        path = PurePosixPath(name.replace("\\", "/"))
        if not name or path.is_absolute() or ".." in path.parts:
            raise InvalidRequest("file path must be relative", field="files")
    if len(files) != 1:
        raise UnsupportedModel("models of several files are not supported here", hint="give one GGUF file")
    ((name, text),) = files.items()
    digest = _present(name, text, blobs)
    with blobs.path(digest).open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InvalidRequest("supplied file was not in GGUF format", field="files")
    return digest


def _present(name: str, text: str, blobs: Blobs) -> Digest:
    try:
        digest = parse_digest(text)
    except InvalidRequest as error:
        raise InvalidRequest("invalid digest format", field="files") from error
    if not blobs.has(digest):
        raise NotFound(f"{name}: the blob {digest} is not here", hint="send it first: POST /api/blobs/DIGEST")
    return digest


def _parameters(given: dict[str, Any]) -> list[tuple[str, Value]]:
    """Return parameters as a Modelfile has them. Raises InvalidRequest in Ollama's words."""
    found: list[tuple[str, Value]] = []
    for name, value in given.items():
        if name in LISTS:
            texts = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str) for text in texts):
                raise _of_type(name, "an array of strings")
            found += [(name, text) for text in texts]
        elif name in INTEGERS:
            found.append((name, _whole(name, value)))
        elif name in FLOATS:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise _of_type(name, "float32")
            found.append((name, float(value)))
        elif name in BOOLEANS:
            if not isinstance(value, bool):
                raise _of_type(name, "boolean")
            found.append((name, value))
        else:
            raise InvalidRequest(f"unknown parameter '{name[:50]}'", field="parameters")
    return found


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise _of_type(name, "integer")
    return int(value)


def _of_type(name: str, kind: str) -> InvalidRequest:
    return InvalidRequest(f'option "{name}" must be of type {kind}', field=f"parameters.{name}")


def _licenses(given: str | list[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _message(message: MessageBody) -> tuple[str, str]:
    if message.role not in ROLES:
        listed = ", ".join(ROLES)
        raise InvalidRequest(
            f"the role of a message must be one of {listed}, got {message.role[:40]!r}", field="messages"
        )
    return message.role, message.content
