"""POST /api/create as clients up to 0.4 send it: the Modelfile as one text, read into the body of today.

Files lie on the client's machine: it sends each first and writes `@sha256:…` where its path was. A path that is still
there would be one of the server's, so it is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from camelid.errors import BadModelfile, InvalidRequest
from camelid.store.modelfile import Modelfile, parse_modelfile

from .making import CreateBody, MessageBody

DIGEST_MARK = "@"


def with_modelfile_read(body: CreateBody) -> CreateBody:
    """Return `body` with what its Modelfile says in the fields of today; itself if it has none.

    Raises InvalidRequest for a Modelfile that is wrong, or that comes beside those fields.
    """
    if not body.modelfile:
        return body
    if body.from_ or body.files:
        raise InvalidRequest("modelfile and from or files together are not supported", field="modelfile")
    try:
        given = parse_modelfile(body.modelfile)
    except BadModelfile as error:
        raise InvalidRequest(error.message, field="modelfile", hint=error.hint) from error
    return msgspec.structs.replace(body, modelfile="", **_weights(given.base), **_rest(given))


def _weights(base: str) -> dict[str, Any]:
    if base.startswith(DIGEST_MARK):
        return {"files": {"model.gguf": base.removeprefix(DIGEST_MARK)}}
    return {"from_": base}


def _rest(given: Modelfile) -> dict[str, Any]:
    return {
        "adapters": {f"adapter-{number}.gguf": _digest(text) for number, text in enumerate(given.adapters)} or None,
        "template": given.template,
        "system": given.system,
        "license": list(given.licenses) or None,
        "parameters": dict(given.parameter_layer()) or None,
        "messages": [MessageBody(role, text) for role, text in given.messages] or None,
        "requires": given.requires,
    }


def _digest(adapter: str) -> str:
    if not adapter.startswith(DIGEST_MARK):
        raise InvalidRequest(
            f"ADAPTER {adapter[:100]!r} is a path, and the file is not here",
            field="modelfile",
            hint="send it first with POST /api/blobs/DIGEST, and write @DIGEST in its place",
        )
    return adapter.removeprefix(DIGEST_MARK)
