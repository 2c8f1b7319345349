"""The routes of vLLM that load and unload LoRA adapters while the server runs.

Files are read on the server's machine, so only those of one folder can be named, which the operator sets.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from camelid.errors import InvalidRequest, NotFound

from ..decode import decode, read_body
from ..door import Door
from .described import OPENAI


class LoadAdapterBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is loaded, and as what. `model` is the model that it is for; without it, the default."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    model: str | None = None
    base_model_name: str | None = None


class UnloadAdapterBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is unloaded."""

    lora_name: str
    lora_int_id: int | None = None
    model: str | None = None


_LOAD = msgspec.json.Decoder(LoadAdapterBody)
_UNLOAD = msgspec.json.Decoder(UnloadAdapterBody)
BODIES = (LoadAdapterBody, UnloadAdapterBody)


class AdapterRoutes:
    """The handlers, over one door; adapters lie in `folder`."""

    def __init__(self, door: Door, folder: str | None) -> None:
        self._door = door
        self._folder = None if folder is None else Path(folder).expanduser().resolve()

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix="/v1", tags=["openai"])
        OPENAI.add(routes, "POST", "/load_lora_adapter", self.load, body=LoadAdapterBody)
        OPENAI.add(routes, "POST", "/unload_lora_adapter", self.unload, body=UnloadAdapterBody)
        return routes

    async def load(self, request: Request) -> Response:
        """Let requests choose an adapter, as MODEL:NAME."""
        door = self._door
        body = decode(await read_body(request, door.limits), _LOAD)
        path = self._checked(body.lora_path)
        model = await door.ready(body.model or body.base_model_name)
        await door.runtime.load_adapter(model, body.lora_name, str(path), replaces=body.load_inplace)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        """Take no more requests for an adapter; those that run are finished with it."""
        door = self._door
        body = decode(await read_body(request, door.limits), _UNLOAD)
        self._check_allowed()
        await door.runtime.unload_adapter(door.names.resolve(body.model), body.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    def _check_allowed(self) -> Path:
        if self._folder is None:
            hint = "serve with --adapter-folder FOLDER"
            raise InvalidRequest("this server loads no adapters while it runs", hint=hint)
        return self._folder

    def _checked(self, path: str) -> Path:
        """Return where an adapter lies. Raises InvalidRequest for a place outside of the folder, NotFound."""
        folder = self._check_allowed()
        try:
            found = (folder / path).resolve()
        except (OSError, ValueError) as error:
            raise InvalidRequest("lora_path is no path", field="lora_path") from error
        if not found.is_relative_to(folder) or found == folder:
            raise InvalidRequest("lora_path must lie in the folder of adapters", field="lora_path")
        if not found.exists():
            raise NotFound(f"there is no adapter at {path[:200]!r}")
        return found
