"""Measuring the server: a client that counts tokens in any pieces, a stub that keeps time, and all of it together."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.bench.http.client import Stream, _Reader
from camelid.bench.http.measure import SETTLING_TOKENS, Load, added, gaps_between, measure_http
from camelid.bench.http.stub_engine import StubEngine
from camelid.engine.request import GenerateRequest
from camelid.types import FinishReason, Sampling

TOKENS = b"".join(b'data: {"choices":[{"delta":{"content":"w%d"}}]}\n\n' % i for i in range(5))
ANSWER = (
    b"HTTP/1.1 200 OK\r\n\r\n" + b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n' + TOKENS
    + b"data: [DONE]\n\n"
)  # fmt: skip


def read(pieces: list[bytes]) -> Stream:
    stream = Stream()
    reader = _Reader(stream, asyncio.Event())
    for piece in pieces:
        reader.data_received(piece)
    return stream


@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_every_token_is_counted_once_however_the_bytes_come(cuts: list[int]) -> None:
    edges = [0, *sorted({*cuts} - {0, len(ANSWER)}), len(ANSWER)]
    stream = read([ANSWER[start:end] for start, end in itertools.pairwise(edges)])
    assert len(stream.token_s) == 5
    assert stream.ended.is_set()


def test_a_refusal_is_kept_in_the_servers_words() -> None:
    assert read([b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}"]).refusal == "HTTP/1.1 503 Service Unavailable"


def test_gaps_are_taken_while_all_streams_run() -> None:
    early = [float(second) for second in range(SETTLING_TOKENS + 5)]
    late = [second + 2.5 for second in early]  # settled at 12.5, when `early` has one gap left
    assert gaps_between([early, late]) == [1.0, 1.0]
    assert gaps_between([early, [100.0, 101.5]]) == [1.0] * (len(early) - 1) + [1.5]


def test_what_is_added_is_told_against_the_engines_own_gaps() -> None:
    told = added([0.025] * 99 + [0.045], [0.025] * 100)
    assert told["gap p50"] == pytest.approx(25)
    assert told["added p99"] == pytest.approx(told["gap p99"] - 25)


def request(name: str, max_tokens: int) -> GenerateRequest:
    return GenerateRequest(name, (1,), Sampling(), max_tokens)


def test_the_stub_gives_first_tokens_at_once_and_then_all_together(tmp_path: Path) -> None:
    stub = StubEngine(200.0, 7, tmp_path / "own.json")
    stub.submit(request("a", 2))
    assert [(token.request_id, token.index, token.id) for token in stub.step()] == [("a", 0, 7)]
    stub.submit(request("b", 3))
    assert [token.request_id for token in stub.step()] == ["b"]
    both = stub.step()
    assert [(token.request_id, token.index, token.finish) for token in both] == [
        ("a", 1, FinishReason.LENGTH),
        ("b", 1, None),
    ]
    stub.abort("b")
    assert not stub.has_work()


def test_the_whole_measurement_in_small() -> None:
    load = Load(streams=3, rate=100.0, tokens=50, singles=2, idle=3)
    result = measure_http(load, runs=1)
    assert [set(row.measures) for row in result.rows] == [
        {"gap p50", "gap p99", "engine's own p99", "added p99", "front's time a token"},
        {"first token p50", "first token p99"},
        {"memory of a stream"},
    ]
    assert result.rows[0].measures["gap p99"].median > 5  # 10 ms, and more on a busy machine
