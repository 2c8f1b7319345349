"""An engine that is somewhere among several replicas: each request goes to one, and to the next when that one dies.

The journal's entry of a request is all that has to be kept: the ids so far, put to another replica, go on as they would
have gone on where they were. Knows no Ray: who reaches the replicas is given.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgspec

from camelid.engine.request import EmbedRequest, GenerateRequest, Token
from camelid.errors import CamelidError, InvalidRequest, RequestsFailed, Unavailable
from camelid.grammar.vocabulary import Vocabulary

from .engine_port import EngineHealth
from .failure import Failure
from .frames import Adapt
from .journal import Entry

_log = logging.getLogger(__name__)

AFFINITY_TOKENS = 256  # prompts that are alike up to here go to the same replica, where they are in the prefix cache
MOST_DEATHS = 5  # of replicas that had a request, with no token of it in between
PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # before the next try

Answer = list[Token] | Failure
answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
requests: msgspec.msgpack.Decoder[GenerateRequest] = msgspec.msgpack.Decoder(GenerateRequest)
texts: msgspec.msgpack.Decoder[EmbedRequest] = msgspec.msgpack.Decoder(EmbedRequest)
vectors: msgspec.msgpack.Decoder[tuple[bytes, ...] | Failure] = msgspec.msgpack.Decoder(tuple[bytes, ...] | Failure)
pack = msgspec.msgpack.encode


class ReplicaLost(Exception):
    """A replica is gone, or cannot be reached any more."""


class Replicas(Protocol):
    """Ways to the replicas. Requests with the same `key` go to the same one while it is there and has room."""

    def generate(self, request: bytes, key: str) -> AsyncGenerator[bytes, None]:
        """Yield packed `Answer`s. Raises ReplicaLost, Overloaded."""

    async def embed(self, request: bytes, key: str) -> bytes:
        """Return packed vectors or a packed failure. Raises ReplicaLost, Overloaded."""


@dataclass(frozen=True)
class About:
    """What every replica has in common."""

    name: str
    backend: str
    context_length: int


class RemoteEngine:
    """An `EnginePort` over replicas."""

    has_learned = True  # a replica has the vocabulary of its own

    def __init__(self, replicas: Replicas, about: About) -> None:
        self.backend = about.backend
        self._replicas = replicas
        self._open: dict[str, Entry] = {}
        self._num_lost = 0
        self._is_reached = True
        self._num_tokens = 0

    def learn(self, vocabulary: Vocabulary) -> None:
        """Do nothing: see `has_learned`."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Token], None]:
        """Yield the tokens of a request, from as many replicas as it takes (see `EnginePort`)."""
        entry = self._open[request.id] = Entry(request)
        try:
            while not entry.is_complete:
                async with aclosing(self._attempt(entry)) as tokens:
                    async for fresh in tokens:
                        yield fresh
        finally:
            del self._open[request.id]

    async def _attempt(self, entry: Entry) -> AsyncGenerator[list[Token], None]:
        """Yield what one replica adds; return when it is all, or when the replica is lost."""
        request = entry.request
        try:
            async with aclosing(self._replicas.generate(pack(entry.resumed()), key_of(request.prompt))) as packed:
                async for one in packed:
                    self._is_reached = True
                    fresh = [token for token in _tokens(one) if entry.accept(token)]
                    self._num_tokens += len(fresh)
                    if fresh:
                        yield fresh
                    if entry.is_complete:
                        return
        except ReplicaLost as error:
            entry.deaths += 1
            await self._lost(request.id, entry.deaths, error)

    async def _lost(self, request_id: str, deaths: int, error: ReplicaLost) -> None:
        """Note that a replica is gone, and wait a little. Raises RequestsFailed after too many."""
        self._num_lost, self._is_reached = self._num_lost + 1, False
        _log.warning("the replica with request %s is lost: %s", request_id, error)
        if deaths >= MOST_DEATHS:
            raise RequestsFailed((request_id,), f"{deaths} replicas were lost with it") from error
        await asyncio.sleep(min(PAUSE_S * 2 ** (deaths - 1), LONGEST_PAUSE_S))

    async def embed(self, request: EmbedRequest) -> tuple[bytes, ...]:
        """Return the vectors of a request's texts (see `EnginePort`)."""
        for deaths in range(1, MOST_DEATHS + 1):
            try:
                found = vectors.decode(await self._replicas.embed(pack(request), key_of(request.texts[0])))
            except ReplicaLost as error:
                await self._lost(request.id, deaths, error)
                continue
            if isinstance(found, Failure):
                raise found.error()
            return found
        raise Unavailable("no replica answers")

    async def adapt(self, adapt: Adapt) -> None:
        """Refuse: replicas come and go, and each would have to be told. Raises InvalidRequest."""
        hint = "name it when the replicas start: CAMELID_ADAPTERS"
        raise InvalidRequest("adapters cannot be loaded into replicas that run", hint=hint)

    def forget_adapter(self, key: str) -> None:
        """Do nothing: see `adapt`."""

    def stop_choice(self, request_id: str, choice: int) -> None:
        """Take no more tokens of a choice; its replica goes on with it until the others end (see `EnginePort`)."""
        if request_id in self._open:
            self._open[request_id].stop(choice)

    def stats(self) -> Mapping[str, float]:
        """Return what this front knows; each replica has its own numbers."""
        return {"sequences_running": len(self._open), "tokens": self._num_tokens, "replicas_lost": self._num_lost}

    def health(self) -> EngineHealth:
        """Say whether replicas are reached."""
        return EngineHealth(True, self._is_reached or not self._open, len(self._open), self._num_lost)

    async def close(self) -> None:
        """Do nothing: replicas are not ours to end."""


def key_of(prompt: tuple[int, ...]) -> str:
    """Return what requests have in common that should meet in one replica's prefix cache."""
    return hashlib.blake2b(pack(prompt[:AFFINITY_TOKENS]), digest_size=16).hexdigest()


def _tokens(packed: bytes) -> list[Token]:
    answer = answers.decode(packed)
    if isinstance(answer, Failure):
        raise answer.error()
    return answer


def failed(error: CamelidError) -> bytes:
    """Return an error as a replica sends it."""
    return pack(Failure.of(error))
