"""The routes of Ollama's dialect: each reads a body, asks the runtime or the store, and writes the answer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from camelid import __version__
from camelid.errors import ContextOverflow, InvalidRequest, NotFound, RegistryError
from camelid.runtime.estimate import Kind, kind_of
from camelid.runtime.overview import header_of, messages, overview
from camelid.runtime.status import ModelStatus
from camelid.store.local import find_by_name, own_name
from camelid.store.names import parse_name
from camelid.store.places import all_stores, own_store
from camelid.store.store import GGUF_LAYERS, Entry
from camelid.store.transfer import pull
from camelid.types import ChatRequest, Embeddings, Event

from ..decode import decode, read_body
from ..door import Door
from ..stream import EventStream, whole
from .bodies import ChatBody, CopyBody, GenerateBody, NameBody, ShowBody, TransferBody
from .embeddings import EmbedBody, OldEmbedBody, inputs_of, to_embedding_request
from .embeddings import to_reply as to_embed_reply
from .making import CreateBody
from .replies import Clock, Reply, Wrap, as_chat, as_generate, empty, encode
from .requests import keep_alive_s, to_chat_request, to_generate_request
from .shapes import (
    OLLAMA,
    SHAPES,
    ChatOut,
    EmbeddingOut,
    EmbedOut,
    GenerateOut,
    ModelsOut,
    ProgressOut,
    ShowOut,
    VersionOut,
)
from .telling import Say, answer, watcher

FOR_EVER = "2318-01-01T00:00:00Z"  # the year that Ollama writes for a model that does not leave
_CHAT = msgspec.json.Decoder(ChatBody)
_GENERATE = msgspec.json.Decoder(GenerateBody)
_EMBED = msgspec.json.Decoder(EmbedBody)
_EMBED_ONE = msgspec.json.Decoder(OldEmbedBody)
_NAME = msgspec.json.Decoder(NameBody)
_SHOW = msgspec.json.Decoder(ShowBody)
_TRANSFER = msgspec.json.Decoder(TransferBody)
_COPY = msgspec.json.Decoder(CopyBody)


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of all bodies and replies of this dialect, for the OpenAPI document."""
    bodies = (ChatBody, GenerateBody, EmbedBody, OldEmbedBody, NameBody, ShowBody, TransferBody, CopyBody, CreateBody)
    return OLLAMA.components((*bodies, *SHAPES))


class OllamaRoutes:
    """The handlers, over one door; `models` is the folder of our store."""

    def __init__(self, door: Door, models: str | None) -> None:
        self._door = door
        self._models = models

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["ollama"])
        add = OLLAMA.add
        add(routes, "GET", "/api/version", self.version, reply=VersionOut)
        add(routes, "GET", "/api/tags", self.tags, reply=ModelsOut)
        for path, handler in (("/api/version", self.version), ("/api/tags", self.tags)):
            routes.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        add(routes, "GET", "/api/ps", self.ps, reply=ModelsOut)
        add(routes, "POST", "/api/chat", self.chat, body=ChatBody, reply=ChatOut, has_stream=True)
        add(routes, "POST", "/api/generate", self.generate, body=GenerateBody, reply=GenerateOut, has_stream=True)
        add(routes, "POST", "/api/embed", self.embed, body=EmbedBody, reply=EmbedOut)
        add(routes, "POST", "/api/embeddings", self.embed_one, body=OldEmbedBody, reply=EmbeddingOut)
        add(routes, "POST", "/api/show", self.show, body=ShowBody, reply=ShowOut)
        add(routes, "POST", "/api/pull", self.pull, body=TransferBody, reply=ProgressOut, has_stream=True)
        add(routes, "POST", "/api/copy", self.copy, body=CopyBody)
        add(routes, "DELETE", "/api/delete", self.delete, body=NameBody)
        return routes

    # ── answers ──

    async def chat(self, request: Request) -> Response:
        """Answer a conversation; without messages, load or unload the model."""
        body, clock = decode(await read_body(request, self._door.limits), _CHAT), Clock()
        if not body.model:
            raise InvalidRequest("model is required", field="model")
        if not body.messages:
            return await self._load_only(body.model, keep_alive_s(body.keep_alive), as_chat)
        own = await self._ready(body.model, clock, keep_alive_s(body.keep_alive))
        ask = to_chat_request(body, own, secrets.randbits(63), self._door.runtime.sampling(own), self._door.limits)
        return await self._answer(
            request, self._door.chat(request, ask), Reply(body.model, as_chat, clock), body.stream
        )

    async def generate(self, request: Request) -> Response:
        """Answer a prompt; without one, load or unload the model."""
        body, clock = decode(await read_body(request, self._door.limits), _GENERATE), Clock()
        if not body.prompt:
            return await self._load_only(body.model, keep_alive_s(body.keep_alive), as_generate)
        own = await self._ready(body.model, clock, keep_alive_s(body.keep_alive))
        ask = to_generate_request(body, own, secrets.randbits(63), self._door.runtime.sampling(own), self._door.limits)
        door = self._door
        events = door.chat(request, ask) if isinstance(ask, ChatRequest) else door.complete(request, ask)
        reply = Reply(body.model, as_generate, clock, gives_context=isinstance(ask, ChatRequest))
        return await self._answer(request, events, reply, body.stream)

    async def embed(self, request: Request) -> Response:
        """Make vectors of texts; without texts, load the model."""
        body, clock = decode(await read_body(request, self._door.limits), _EMBED), Clock()
        found = await self._embedded(request, body, clock)
        return _json(to_embed_reply(body.model, found, clock))

    async def embed_one(self, request: Request) -> Response:
        """Make a vector of one text, as older clients ask for it."""
        old, clock = decode(await read_body(request, self._door.limits), _EMBED_ONE), Clock()
        body = EmbedBody(old.model, old.prompt, keep_alive=old.keep_alive, options=old.options)
        found = await self._embedded(request, body, clock)
        return _json({"embedding": list(found.vectors[0]) if found.vectors else []})

    async def _embedded(self, request: Request, body: EmbedBody, clock: Clock) -> Embeddings:
        if not body.model:
            raise InvalidRequest("model is required", field="model")
        keep_s = keep_alive_s(body.keep_alive)
        if not inputs_of(body):
            with self._in_ollamas_words(body.model):
                await self._door.keep(body.model, keep_s)
            clock.ready = time.perf_counter_ns()
            return Embeddings((), 0)
        own = await self._ready(body.model, clock, keep_s)
        try:
            return await self._door.embed(request, to_embedding_request(body, own))
        except ContextOverflow as error:
            raise InvalidRequest("the input length exceeds the context length", field="input") from error

    async def _answer(
        self, request: Request, events: AsyncGenerator[Event, None], reply: Reply, stream: bool
    ) -> Response:
        if stream:
            return EventStream(events, reply, self._door.lifecycle, self._door.limits)
        return await whole(request, events, reply, self._door.lifecycle)

    async def _load_only(self, name: str, keep_s: float | None, wrap: Wrap) -> Response:
        own = self._loaded_name(name)
        if keep_s != 0:
            with self._in_ollamas_words(name):
                await self._door.keep(name, keep_s)
        elif own is not None:
            await self._door.runtime.release(own)
        else:
            await asyncio.to_thread(self._check_known, name)
        return Response(empty(name, wrap, "load" if keep_s != 0 else "unload"), media_type="application/json")

    async def _ready(self, name: str, clock: Clock, keep_s: float | None) -> str:
        """Return the runtime's name of a model, loaded now if it was not. Raises what loading raises."""
        with self._in_ollamas_words(name):
            own = await self._door.ready(name, keep_s)
        clock.ready = time.perf_counter_ns()
        return own

    @contextlib.contextmanager
    def _in_ollamas_words(self, name: str) -> Iterator[None]:
        """Say as Ollama does that a model is not there, or that its name is none."""
        try:
            yield
        except NotFound as error:
            if name:
                self._parsed(name)
            raise NotFound(f"model '{name}' not found") from error

    def _loaded_name(self, name: str) -> str | None:
        known = self._door.names.resolve(name)
        wanted = (known, own_name(known))
        return next((status.name for status in self._door.runtime.loaded() if status.name in wanted), None)

    # ── models ──

    async def version(self) -> Response:
        """Tell the version, which is Camelid's."""
        return JSONResponse({"version": __version__})

    async def tags(self) -> Response:
        """List the models on this machine, the newest first, and those that are loaded from elsewhere."""
        entries = await asyncio.to_thread(self._entries)
        listed = await asyncio.to_thread(lambda: [_tag(entry) for entry in entries])
        names = {tag["name"] for tag in listed}
        loaded = [_loaded_tag(status) for status in self._door.runtime.loaded() if status.name not in names]
        return JSONResponse({"models": [*loaded, *listed]})

    async def ps(self) -> Response:
        """List the loaded models."""
        loaded = sorted(self._door.runtime.loaded(), key=lambda status: -(status.expires_at or math.inf))
        digests = await asyncio.to_thread(self._digests)
        return JSONResponse({"models": [_loaded_tag(status, digests.get(status.name, "")) for status in loaded]})

    def _digests(self) -> dict[str, str]:
        return {str(entry.name): entry.manifest.digest.hex for entry in self._entries()}

    async def show(self, request: Request) -> Response:
        """Describe a model."""
        body = decode(await read_body(request, self._door.limits), _SHOW)
        name = body.model or body.name
        if not name:
            raise InvalidRequest("model is required", field="model")
        bases = {status.name: status.base for status in self._door.runtime.loaded() if status.base is not None}
        return _json(await asyncio.to_thread(self._described, bases.get(name, name), body.verbose))

    async def delete(self, request: Request) -> Response:
        """Forget a model."""
        body = decode(await read_body(request, self._door.limits), _NAME)
        name = body.model or body.name
        await asyncio.to_thread(own_store(self._models).remove, self._parsed(name))
        own = self._loaded_name(name)
        if own is not None:
            await self._door.runtime.release(own)
        return Response()

    async def copy(self, request: Request) -> Response:
        """Give a model a second name."""
        body = decode(await read_body(request, self._door.limits), _COPY)
        source, target = self._parsed(body.source), self._parsed(body.destination)
        await asyncio.to_thread(own_store(self._models).copy, source, target)
        return Response()

    async def pull(self, request: Request) -> Response:
        """Fetch a model, telling how far it is."""
        body = decode(await read_body(request, self._door.limits), _TRANSFER)
        name = self._parsed(body.model or body.name)
        origin = replace(name, is_plain=name.is_plain or body.insecure)

        def work(say: Say) -> None:
            say(status="pulling manifest")
            try:
                pull(own_store(self._models), origin, watcher(say, "pulling"), lambda manifest, need: None)
            except NotFound as error:
                raise RegistryError("pull model manifest: file does not exist", status=404) from error
            say(status="verifying sha256 digest")
            say(status="writing manifest")

        return await answer(work, is_streamed=body.stream)

    def _entries(self) -> list[Entry]:
        found = {entry.name: entry for store in reversed(all_stores(self._models)) for entry in store.entries()}
        return sorted(found.values(), key=lambda entry: -entry.modified_s)

    def _check_known(self, name: str) -> None:
        """Raise NotFound, in Ollama's words, unless the name leads to a model; a path does not: it is no name."""
        with self._in_ollamas_words(name):
            find_by_name(name, self._models)

    def _parsed(self, name: str) -> Any:
        try:
            return parse_name(name)
        except InvalidRequest as error:
            raise InvalidRequest("invalid model name", field="model") from error

    def _described(self, name: str, is_verbose: bool) -> dict[str, Any]:
        self._check_known(name)
        files = find_by_name(name, self._models)
        shown = overview(files)
        summary = shown.summary
        texts = {
            "license": shown.license,
            "modelfile": shown.readable_modelfile,
            "parameters": shown.parameters,
            "template": shown.template,
            "system": files.system,
            "messages": messages(shown),
            "requires": files.requires,
        }
        family = summary["architecture"]
        return {
            **{key: text for key, text in texts.items() if text},
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": family,
                "families": [family],
                "parameter_size": summary["parameters"],
                "quantization_level": summary["quantization"],
            },
            "model_info": header_of(files.weights, with_lists=is_verbose),
            "capabilities": list(shown.capabilities),
        }


def _json(values: dict[str, Any]) -> Response:
    return Response(encode(values), media_type="application/json")


def _tag(entry: Entry) -> dict[str, Any]:
    name = str(entry.name)
    return {
        "name": name,
        "model": name,
        "modified_at": _written(entry.modified_s),
        "size": entry.manifest.size,
        "digest": entry.manifest.digest.hex,
        "details": _details(_kind(entry)),
    }


def _kind(entry: Entry) -> Kind:
    layers = [layer for layer in entry.manifest.layers if layer.media_type in GGUF_LAYERS]
    try:
        return kind_of(entry.store.blobs.path(layers[0].digest)) if layers else Kind()
    except OSError:
        return Kind()  # it cannot be read, which whoever loads it is told


def _loaded_tag(status: ModelStatus, digest: str = "") -> dict[str, Any]:
    return {
        "name": status.name,
        "model": status.name,
        "modified_at": _written(status.loaded_at),
        "size": status.memory_bytes,
        "digest": digest,
        "details": _details(Kind(status.architecture, f"{status.num_parameters / 1e9:.1f}B")),
        "expires_at": FOR_EVER if status.expires_at is None else _written(status.expires_at),
        "size_vram": status.memory_bytes if status.backend.startswith("gpu") else 0,
        "context_length": status.context_length,
    }


def _written(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")


def _details(kind: Kind) -> dict[str, Any]:
    family = kind.architecture or "llama"
    known = {"parent_model": "", "format": "gguf", "family": family, "families": [family]}
    return {**known, "parameter_size": kind.parameters, "quantization_level": kind.quantization}
