"""The routes of Docker Model Runner: each reads a body, asks the store or the runtime, and writes the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from camelid import __version__
from camelid.errors import CamelidError, InvalidRequest, NotFound, RegistryError, Unauthorized
from camelid.runtime.summary import summarize
from camelid.store.local import own_name
from camelid.store.names import Name
from camelid.store.places import all_stores, own_store
from camelid.store.store import Entry
from camelid.store.transfer import origin_of, pull, push

from ..decode import decode, read_body
from ..door import Door
from ..errors import HeadedEnvelope, Problem
from ..news import said
from . import models as wording
from .bodies import ConfigureBody, CreateBody, PushBody, UnloadBody, keep_s
from .progress import Line, Mode, Progress, failure, media_type, success, written

ENGINE = "llama.cpp"  # what clients ask for by that name, we answer
_CREATE = msgspec.json.Decoder(CreateBody)
_PUSH = msgspec.json.Decoder(PushBody)
_UNLOAD = msgspec.json.Decoder(UnloadBody)
_CONFIGURE = msgspec.json.Decoder(ConfigureBody)


def error_body(problem: Problem) -> bytes:
    """Return Docker Model Runner's envelope of an error: plain text."""
    return f"{problem.message}\n".encode()


ENVELOPE = HeadedEnvelope(error_body, lambda problem: {"content-type": "text/plain; charset=utf-8"})


class DockerRoutes:
    """The handlers, over one door; `models` is the folder of our store."""

    def __init__(self, door: Door, models: str | None) -> None:
        self._door, self._models = door, models

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["docker"], include_in_schema=False)
        table: tuple[tuple[str, str, Any], ...] = (
            ("GET", "/version", self.version),
            ("POST", "/models/create", self.create),
            ("GET", "/models", self.listing),
            ("DELETE", "/models/purge", self.purge),
            ("POST", "/models/{reference:path}/tag", self.tag),
            ("POST", "/models/{reference:path}/push", self.push),
            ("GET", "/models/{reference:path}", self.show),
            ("DELETE", "/models/{reference:path}", self.remove),
            ("GET", "/engines/v1/models", self.openai_list),
            ("GET", "/engines/v1/models/{reference:path}", self.openai_show),
            ("GET", "/engines/status", self.status),
            ("GET", "/engines/ps", self.ps),
            ("GET", "/engines/df", self.df),
            ("POST", "/engines/unload", self.unload),
            ("POST", "/engines/_configure", self.configure),
            ("GET", "/engines/_configure", self.configured),
        )
        for method, path, handler in table:
            routes.add_api_route(path, handler, methods=[method], response_class=Response)
        return routes

    # ── models ──

    async def version(self) -> Response:
        """Tell the version, which is Camelid's."""
        return JSONResponse({"version": __version__})

    async def create(self, request: Request) -> Response:
        """Pull a model, telling how far it is."""
        body = decode(await self._body(request), _CREATE)
        if not body.from_:
            raise InvalidRequest("Invalid model reference", field="from")
        _check_token(body.bearer_token)
        name = _named(body.from_)
        here = own_store(self._models)

        def work(say: Callable[[Line], None]) -> None:
            progress = Progress(say, "pull")
            try:
                entry = pull(here, name, progress.watcher(), progress.confirm)
            except RegistryError as error:
                raise Unauthorized(error.message) if error.status in (401, 403) else error from error
            if progress.num_missing == 0:
                size = wording.gibibytes(entry.manifest.size)
                say({"type": "success", "message": f"Using cached model: {size}", "mode": "pull"})
            say(success("Model pulled successfully", "pull"))

        return await _told(work, request, "pull")

    async def listing(self) -> Response:
        """List the models on this machine."""
        return JSONResponse(await asyncio.to_thread(self._described))

    async def show(self, request: Request, reference: str) -> Response:
        """Describe a model: one of this machine, or with `remote=true` one of a registry, without fetching it."""
        if request.query_params.get("remote") == "true":
            return JSONResponse(await asyncio.to_thread(_remote, reference))
        return JSONResponse(await asyncio.to_thread(self._one, reference))

    async def remove(self, request: Request, reference: str) -> Response:
        """Forget a model, or one of its names."""
        force = request.query_params.get("force") in ("1", "true", "True")
        gone = await asyncio.to_thread(self._removed, reference, force)
        if isinstance(gone, str):
            return PlainTextResponse(f"{gone}\n", 409)
        for name, _ in gone:
            await self._release(str(name))
        told = [{"Untagged": wording.shown_name(name)} for name, _ in gone]
        deleted = sorted({identity for _, identity in gone if identity})
        return JSONResponse([*told, *({"Deleted": identity} for identity in deleted)])

    async def purge(self) -> Response:
        """Forget every model of our store."""
        for entry in await asyncio.to_thread(lambda: [*own_store(self._models).entries()]):
            await asyncio.to_thread(own_store(self._models).remove, entry.name)
            await self._release(str(entry.name))
        return Response()

    async def tag(self, request: Request, reference: str) -> Response:
        """Give a model a second name."""
        repository, tag = (request.query_params.get(name, "") for name in ("repo", "tag"))
        if not repository or not tag:
            raise InvalidRequest("missing repository or tag")
        target = _named(f"{repository}:{tag}")
        entry = (await asyncio.to_thread(self._found, reference))[0]
        if not entry.store.is_own:
            raise InvalidRequest(f"{reference} lies in another program's store, which is not written to")
        await asyncio.to_thread(entry.store.list_model, target, entry.manifest)
        shown = wording.shown_name(target)
        return JSONResponse({"message": f"Model tagged successfully as {shown!r}", "target": shown}, 201)

    async def push(self, request: Request, reference: str) -> Response:
        """Send a model to the registry that its name is about."""
        data = await self._body(request)
        body = decode(data, _PUSH) if data.strip() else PushBody()
        _check_token(body.bearer_token)
        entry = (await asyncio.to_thread(self._found, reference))[0]
        target = entry.name if wording.is_identity(reference) else _named(reference)

        def work(say: Callable[[Line], None]) -> None:
            progress = Progress(say, "push")
            progress.confirm(entry.manifest, 0)
            push(entry, target, progress.watcher())
            say(success("Model pushed successfully", "push"))

        return await _told(work, request, "push")

    # ── engines ──

    async def openai_list(self) -> Response:
        """List the models on this machine as OpenAI does, with what Docker adds."""
        found = await asyncio.to_thread(self._described)
        cards = [wording.openai_card(one["tags"][0], one["created"], one["config"]) for one in found]
        return JSONResponse({"object": "list", "data": cards})

    async def openai_show(self, reference: str) -> Response:
        """Describe one model in the same way."""
        one = await asyncio.to_thread(self._one, reference)
        return JSONResponse(wording.openai_card(one["tags"][0], one["created"], one["config"]))

    async def status(self) -> Response:
        """Tell which engines there are: one, which answers for llama.cpp."""
        return JSONResponse({ENGINE: f"Running: camelid {__version__}"})

    async def ps(self) -> Response:
        """List the loaded models."""
        return JSONResponse([_running(status) for status in self._door.runtime.loaded()])

    async def df(self) -> Response:
        """Tell the disk that models take."""
        sizes = await asyncio.to_thread(self._sizes)
        return JSONResponse({"models_disk_usage": sizes, "default_backend_disk_usage": 0})

    async def unload(self, request: Request) -> Response:
        """Let models go."""
        body = decode(await self._body(request), _UNLOAD)
        if body.backend and body.backend != ENGINE and not body.all:
            return JSONResponse({"unloaded_runners": 0})
        loaded = [status.name for status in self._door.runtime.loaded() if status.base is None]
        wanted = set(loaded) if body.all else {self._runtimes_name(name) for name in body.models}
        gone = [name for name in loaded if name in wanted]
        for name in gone:
            await self._door.runtime.release(name)
        return JSONResponse({"unloaded_runners": len(gone)})

    async def configure(self, request: Request) -> Response:
        """Load a model and say how long it stays. What is asked beyond that is honoured or refused."""
        body = decode(await self._body(request), _CONFIGURE)
        kept_s = keep_s(body)
        name = self._runtimes_name(body.model)
        await self._door.keep(name, kept_s)
        self._check_context(name, body.context_size)
        return Response(status_code=202)

    async def configured(self) -> Response:
        """List how the loaded models are run."""
        return JSONResponse(
            [
                {
                    "Backend": ENGINE,
                    "Model": status.name,
                    "Mode": "completion",
                    "Config": {"context-size": status.context_length},
                }
                for status in self._door.runtime.loaded()
            ]
        )

    # ── what they share ──

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._door.limits)

    def _entries(self) -> list[Entry]:
        found = {entry.name: entry for store in reversed(all_stores(self._models)) for entry in store.entries()}
        return [*found.values()]

    def _found(self, reference: str) -> list[Entry]:
        return wording.matching(reference, self._entries())

    def _described(self) -> list[dict[str, Any]]:
        return [wording.described(entries, _summary(entries[0])) for entries in wording.grouped(self._entries())]

    def _one(self, reference: str) -> dict[str, Any]:
        entries = self._entries()
        (first, *_) = wording.matching(reference, entries)
        (same,) = wording.grouped(entry for entry in entries if entry.manifest.digest == first.manifest.digest)
        return wording.described(same, _summary(first))

    def _removed(self, reference: str, force: bool) -> list[tuple[Name, str]] | str:
        """Return the names that went, each with the id of its model where that is gone, or why nothing was done."""
        entries = [entry for entry in self._entries() if entry.store.is_own]
        found = wording.matching(reference, entries)
        if wording.is_identity(reference) and len(found) > 1 and not force:
            return f"{reference} has several tags; untag them first, or use force"
        gone = []
        for entry in found:
            entry.store.remove(entry.name)
            entries.remove(entry)
            is_last = all(other.manifest.digest != entry.manifest.digest for other in entries)
            gone.append((entry.name, wording.identity(entry) if is_last else ""))
        return gone

    def _sizes(self) -> int:
        blobs = {layer.digest: layer.size for entry in self._entries() for layer in entry.manifest.blobs}
        return sum(blobs.values())

    def _runtimes_name(self, name: str) -> str:
        """Return what the runtime calls the model that a client of Docker's calls `name`."""
        known = self._door.names.resolve(name)
        for status in self._door.runtime.loaded():
            if status.name in (known, own_name(known)):
                return status.name
        try:
            return str(self._found(name)[0].name)
        except NotFound:
            return known

    def _check_context(self, name: str, wanted: int | None) -> None:
        for status in self._door.runtime.loaded():
            if status.name == name and wanted is not None and wanted > status.context_length:
                raise InvalidRequest(
                    f"context-size must be at most {status.context_length} for the loaded model, got {wanted}",
                    field="context-size",
                    hint=f"start the server with --context-length {wanted}",
                )

    async def _release(self, name: str) -> None:
        if any(status.name == name for status in self._door.runtime.loaded()):
            await self._door.runtime.release(name)


async def _told(work: Callable[[Callable[[Line], None]], None], request: Request, mode: Mode) -> Response:
    """Answer with what `work` says. What goes wrong before it says anything is an error with its status."""
    kind = media_type(request.headers.get("accept", ""))
    lines = said(work)
    try:
        first = await anext(lines)
    except OSError as error:
        raise RegistryError(str(error)) from error

    async def body() -> AsyncIterator[bytes]:
        yield written(first, kind)
        try:
            async for line in lines:
                yield written(line, kind)
        except (CamelidError, OSError) as error:
            yield written(failure(str(error), mode), kind)

    return StreamingResponse(body(), media_type=kind)


def _named(reference: str) -> Name:
    try:
        return wording.dockers_name(reference)
    except InvalidRequest as error:
        raise InvalidRequest(f"Invalid model reference: {error.message}") from error


def _check_token(token: str | None) -> None:
    """Refuse a token of the request: ours come from the configuration of this machine."""
    if token:
        raise InvalidRequest("bearer-token is not taken from a request", hint="log in on the server's machine")


def _summary(entry: Entry) -> dict[str, Any]:
    """Return what the weights tell; nothing where they cannot be read."""
    try:
        return summarize(entry.store.weights(entry))
    except CamelidError:
        return {}


def _remote(reference: str) -> dict[str, Any]:
    manifest = origin_of(_named(reference)).manifest()
    name = wording.shown_name(_named(reference))
    return {
        "id": str(manifest.digest),
        "tags": [name],
        "created": 0,
        "config": {"format": "gguf", "size": wording.gibibytes(manifest.size)},
    }


def _running(status: Any) -> dict[str, Any]:
    leaves = status.expires_at
    return {
        "backend_name": ENGINE,
        "model_name": status.name,
        "mode": "completion",
        "last_used": datetime.fromtimestamp(status.loaded_at, UTC).isoformat(),
        "in_use": status.num_requests > 0,
        "loading": False,
        "keep_alive": "-1" if leaves is None else f"{max(0, round(leaves - time.time()))}s",
    }
