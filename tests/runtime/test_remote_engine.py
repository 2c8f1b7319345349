"""An engine among replicas: what one leaves unfinished another finishes, and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest

from camelid.engine.request import EmbedRequest, GenerateRequest, Token
from camelid.errors import ContextOverflow, InvalidRequest, RequestsFailed
from camelid.runtime import remote_engine
from camelid.runtime.frames import Adapt
from camelid.runtime.remote_engine import AFFINITY_TOKENS, About, RemoteEngine, ReplicaLost, failed, key_of, pack
from camelid.types import FinishReason, Sampling

ABOUT = About("tiny", "fake", 128)


def asked(num_tokens: int = 6, num_choices: int = 1) -> GenerateRequest:
    return GenerateRequest("r", (1, 2, 3), Sampling(), num_tokens, num_choices=num_choices)


class Scripted:
    """Replicas that count on from what a request brings; `dies_after` says after how many tokens the next ones die."""

    def __init__(self, *dies_after: int) -> None:
        self._dies_after = list(dies_after)
        self.requests: list[GenerateRequest] = []
        self.keys: set[str] = set()
        self.num_closed = 0

    async def generate(self, request: bytes, key: str) -> AsyncGenerator[bytes, None]:
        given = msgspec.msgpack.decode(request, type=GenerateRequest)
        self.requests.append(given)
        self.keys.add(key)
        left = self._dies_after.pop(0) if self._dies_after else -1
        try:
            for choice in range(given.num_choices):
                if choice in given.finished:
                    continue
                for index in range(len(given.answers[choice]), given.max_tokens):
                    if left == 0:
                        raise ReplicaLost("it was killed")
                    left -= 1
                    finish = FinishReason.LENGTH if index + 1 == given.max_tokens else None
                    yield pack([Token("r", choice, index, 100 * choice + index, finish)])
        finally:
            self.num_closed += 1

    async def embed(self, request: bytes, key: str) -> bytes:
        if self._dies_after and self._dies_after.pop(0) == 0:
            raise ReplicaLost("it was killed")
        return pack((b"1234",))


async def ids(engine: RemoteEngine, request: GenerateRequest) -> list[int]:
    return [token.id async for tokens in engine.generate(request) for token in tokens]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_engine, "PAUSE_S", 0.0)


def test_another_replica_goes_on_where_one_died() -> None:
    replicas = Scripted(2, 0, 3)
    engine = RemoteEngine(replicas, ABOUT)
    assert asyncio.run(ids(engine, asked())) == [0, 1, 2, 3, 4, 5]
    assert [request.answers for request in replicas.requests] == [((),), ((0, 1),), ((0, 1),), ((0, 1, 2, 3, 4),)]
    assert (engine.stats()["replicas_lost"], engine.stats()["tokens"], engine.health().num_open) == (3, 6, 0)
    assert replicas.num_closed == 4


def test_a_complete_choice_is_not_asked_for_again() -> None:
    replicas = Scripted(3)
    assert asyncio.run(ids(RemoteEngine(replicas, ABOUT), asked(2, 2))) == [0, 1, 100, 101]
    assert replicas.requests[1].finished == {0}


def test_a_request_that_kills_every_replica_is_failed() -> None:
    replicas = Scripted(*[1] + [0] * 9)
    with pytest.raises(RequestsFailed, match="5 replicas were lost with it"):
        asyncio.run(ids(RemoteEngine(replicas, ABOUT), asked()))
    assert len(replicas.requests) == 1 + 5 - 1


def test_what_a_replica_refuses_is_the_same_error_here() -> None:
    class Refusing(Scripted):
        async def generate(self, request: bytes, key: str) -> AsyncGenerator[bytes, None]:
            yield failed(ContextOverflow(200, 128))

    with pytest.raises(ContextOverflow, match="200 tokens, and the context holds 128"):
        asyncio.run(ids(RemoteEngine(Refusing(), ABOUT), asked()))


def test_a_reader_that_leaves_ends_the_request_at_its_replica() -> None:
    async def leave() -> int:
        replicas = Scripted()
        engine = RemoteEngine(replicas, ABOUT)
        tokens = engine.generate(asked())
        await anext(tokens)
        await tokens.aclose()
        return replicas.num_closed + engine.health().num_open

    assert asyncio.run(leave()) == 1


def test_a_choice_that_is_given_up_gives_no_more_tokens() -> None:
    async def stop() -> list[int]:
        engine = RemoteEngine(Scripted(), ABOUT)
        found = []
        async for tokens in engine.generate(asked(3, 2)):
            found += [token.id for token in tokens]
            engine.stop_choice("r", 0)
        return found

    assert asyncio.run(stop()) == [0, 100, 101, 102]


def test_vectors_come_from_the_next_replica_when_one_dies() -> None:
    request = EmbedRequest("r", ((1, 2),))
    assert asyncio.run(RemoteEngine(Scripted(0, 0), ABOUT).embed(request)) == (b"1234",)


def test_prompts_that_begin_alike_go_to_the_same_replica() -> None:
    shared = tuple(range(AFFINITY_TOKENS))
    assert key_of((*shared, 1)) == key_of((*shared, 2, 3)) != key_of((7, *shared))


def test_adapters_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="cannot be loaded into replicas"):
        asyncio.run(RemoteEngine(Scripted(), ABOUT).adapt(Adapt("a", "/b")))
