"""The routes of Ollama's dialect that bring models in and send them away: blobs, create, push."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from camelid.errors import Cancelled, DamagedBlob, InvalidRequest, MissingModel, NotFound
from camelid.runtime.requantizing import requantize
from camelid.store.blobs import Digest, parse_digest
from camelid.store.local import BUNDLED, find_by_name, own_name
from camelid.store.making import create
from camelid.store.manifests import OLLAMA_LAYER, Manifest, write_manifest
from camelid.store.modelfile import Modelfile
from camelid.store.names import Name, parse_name
from camelid.store.places import find_entry, own_store
from camelid.store.receiving import receive
from camelid.store.store import Store
from camelid.store.transfer import pull, push

from ..decode import decode, read_body
from ..described import OCTETS
from ..door import Door
from .bodies import TransferBody
from .making import CreateBody, check, to_modelfile
from .older_create import with_modelfile_read
from .shapes import OLLAMA, ProgressOut
from .telling import Say, answer, watcher

PIECE_BYTES = 1 << 20
MODEL_LAYER = f"{OLLAMA_LAYER}model"
_CREATE = msgspec.json.Decoder(CreateBody)
_TRANSFER = msgspec.json.Decoder(TransferBody)
_HAS_BLOB: dict[int | str, dict[str, Any]] = {
    200: {"description": "it is here"},
    "4XX": {"description": "it is not, or this is no digest"},
}


class MakingRoutes:
    """The handlers, over one door; `models` is the folder of our store."""

    def __init__(self, door: Door, models: str | None) -> None:
        self._door = door
        self._models = models

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["ollama"])
        add = OLLAMA.add
        add(routes, "POST", "/api/create", self.create, body=CreateBody, reply=ProgressOut, has_stream=True)
        add(routes, "POST", "/api/push", self.push, body=TransferBody, reply=ProgressOut, has_stream=True)
        blobs = "/api/blobs/{digest}"
        routes.add_api_route(blobs, self.has_blob, methods=["HEAD"], responses=_HAS_BLOB, response_class=Response)
        add(routes, "POST", blobs, self.take_blob, body=OCTETS, created="the blob was taken in")
        return routes

    async def has_blob(self, digest: str) -> Response:
        """Say whether a blob is here."""
        return Response(status_code=200 if self._store().blobs.has(_parsed_digest(digest)) else 404)

    async def take_blob(self, digest: str, request: Request) -> Response:
        """Take a blob in, unless it is here already."""
        wanted, blobs = _parsed_digest(digest), self._store().blobs
        if blobs.has(wanted):
            return Response(status_code=200)
        announced = request.headers.get("content-length", "")
        try:
            with receive(blobs, wanted, int(announced) if announced.isdigit() else 0) as receiving:
                await _write(request, receiving.write)
        except DamagedBlob as error:
            raise InvalidRequest(error.message, field="digest") from error
        except ClientDisconnect as error:
            raise Cancelled("the client left before its blob was complete") from error
        return Response(status_code=201)

    async def create(self, request: Request) -> Response:
        """Make a model from another one, or from a file that was sent before."""
        body = with_modelfile_read(decode(await read_body(request, self._door.limits), _CREATE))
        name = _parsed_name(body.model or body.name)
        check(body)
        return await answer(
            lambda say: self._create(body, name, say), is_streamed=body.stream, then=lambda: self._let_go(name)
        )

    async def push(self, request: Request) -> Response:
        """Send a model to a registry."""
        body = decode(await read_body(request, self._door.limits), _TRANSFER)
        name = _parsed_name(body.model or body.name)
        target = replace(name, is_plain=name.is_plain or body.insecure)

        def work(say: Say) -> None:
            say(status="retrieving manifest")
            try:
                entry = find_entry(name, self._models)
            except NotFound as error:
                raise NotFound(f"model '{body.model or body.name}' not found") from error
            telling = watcher(say, "pushing")
            push(entry, target, replace(telling, say=lambda text: say(status="pushing manifest")))

        return await answer(work, is_streamed=body.stream)

    async def _let_go(self, name: Name) -> None:
        """Have a loaded model of that name loaded anew when it is asked for next: it is another one now."""
        own = own_name(str(name))
        if any(status.name == own for status in self._door.runtime.loaded()):
            await self._door.runtime.release(own)

    def _create(self, body: CreateBody, name: Name, say: Say) -> None:
        store = self._store()
        if body.from_:
            self._fetch_if_missing(store, body.from_, say)
        else:
            say(status="parsing GGUF")
        before = set(store.blobs)
        given = to_modelfile(body, store.blobs)
        kind = body.quantize or body.quantization
        smaller = self._quantized(store, given, kind, say) if kind else None
        with tempfile.TemporaryDirectory() as folder:  # empty: no name of a model is a path in it
            manifest = create(store, name, given, Path(folder))
        if smaller is not None:
            manifest = _with_weights(store, name, manifest, smaller)
        for layer in manifest.layers:
            say(status=f"{'using existing' if layer.digest in before else 'creating new'} layer {layer.digest}")
        say(status="writing manifest")

    def _fetch_if_missing(self, store: Store, base: str, say: Say) -> None:
        if base == BUNDLED:
            return
        try:
            find_entry(parse_name(base), self._models)
        except MissingModel:
            say(status="pulling manifest")
            pull(store, parse_name(base), watcher(say, "pulling"), lambda manifest, need: None)

    def _quantized(self, store: Store, given: Modelfile, kind: str, say: Say) -> Digest:
        """Return the blob of the weights in fewer bits."""
        is_file = Path(given.base).is_absolute()
        source = Path(given.base) if is_file else find_by_name(given.base, self._models).weights
        total, done = source.stat().st_size, 0

        def progress(size: int) -> None:
            nonlocal done
            done += size
            say(status=f"quantizing model to {kind.upper()}", digest="0" * 19, total=total, completed=done)

        store.blobs.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store.folder) as folder:
            target = Path(folder) / "smaller.gguf"
            requantize(source, target, kind, progress)
            say(status="verifying conversion")
            return store.blobs.add_file(target)

    def _store(self) -> Store:
        return own_store(self._models)


async def _write(request: Request, write: Callable[[bytes], None]) -> None:
    """Hand a body on in large pieces, to a thread: disks are slow and others are waiting."""
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) >= PIECE_BYTES:
            await asyncio.to_thread(write, bytes(buffer))
            buffer.clear()
    await asyncio.to_thread(write, bytes(buffer))


def _with_weights(store: Store, name: Name, manifest: Manifest, weights: Digest) -> Manifest:
    """Put other weights into a model that was just made."""
    size = store.blobs.path(weights).stat().st_size
    layers = tuple(
        replace(layer, digest=weights, size=size) if layer.media_type == MODEL_LAYER else layer
        for layer in manifest.layers
    )
    changed = write_manifest(manifest.media_type, manifest.config, layers)
    store.manifests.write(name, changed)
    return changed


def _parsed_name(text: str) -> Name:
    try:
        return parse_name(text)
    except InvalidRequest as error:
        raise InvalidRequest("invalid model name", field="model") from error


def _parsed_digest(text: str) -> Digest:
    try:
        return parse_digest(text)
    except InvalidRequest as error:
        raise InvalidRequest("invalid digest format", field="digest") from error
