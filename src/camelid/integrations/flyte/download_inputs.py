"""A task's inputs as JSON, for a Modelfile that waits for them: the whole program of a container with flytekit in it.

Its text is the container's argument, so it imports nothing of ours. Files are fetched to /tmp, everything else keeps
its type; dataclasses and dictionaries become objects.

    python download_inputs.py /shared/inputs.json s3://…/inputs.pb
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
from typing import Any


def inputs_of(source: str) -> dict[str, Any]:
    """Return the values of a literal map that lies at `source`, by name."""
    from flyteidl.core import literals_pb2
    from flytekit.core import utils
    from flytekit.core.context_manager import FlyteContextManager
    from flytekit.interaction.string_literals import literal_map_string_repr
    from flytekit.models.literals import LiteralMap

    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "inputs.pb")
        FlyteContextManager.current_context().file_access.get_data(source, file)
        literals = LiteralMap.from_flyte_idl(utils.load_proto_from_file(literals_pb2.LiteralMap, file))
    found: dict[str, Any] = dict(literal_map_string_repr(literals))
    for name, literal in literals.literals.items():
        scalar = literal.scalar
        if scalar and scalar.blob and scalar.blob.metadata.type.dimensionality == 0:  # one file
            found[name] = _fetched(scalar.blob.uri)
        elif scalar and scalar.binary:
            found[name] = _unpacked(scalar.binary.value, scalar.binary.tag)
    return found


def _fetched(uri: str) -> str:
    """Return where a file lies now; the container that needs it sees /tmp and nothing else of this one."""
    from flytekit.types.file import FlyteFile

    path = str(FlyteFile.from_source(uri).download())
    if path.startswith("/tmp/"):
        return path
    return shutil.copy(path, os.path.join(tempfile.mkdtemp(dir="/tmp"), os.path.basename(path)))


def _unpacked(value: bytes, tag: str) -> Any:
    if tag == "msgpack":
        import msgpack

        return msgpack.unpackb(value, strict_map_key=False)
    return _text(value)


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def main(target: str, source: str) -> None:
    """Write the inputs."""
    found = inputs_of(source)
    partial = target + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(found, file, default=_text)
    os.replace(partial, target)


if __name__ == "__main__":
    main(*sys.argv[-2:])
