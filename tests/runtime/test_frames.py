"""Frames: every message survives, whatever the pieces; nothing else gets in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.engine.request import GenerateRequest, Token
from camelid.errors import ContextOverflow, FormatError, InvalidRequest, Overloaded, ProtocolError
from camelid.runtime.failure import Failure
from camelid.runtime.frames import (
    MAX_FRAME_BYTES,
    Abort,
    Accepted,
    Failed,
    Idle,
    Load,
    LoadFailed,
    Loading,
    Logged,
    Ready,
    Stepped,
    Submit,
    Unpacker,
    command_decoder,
    pack,
    report_decoder,
)
from camelid.settings import ModelSettings
from camelid.types import MAX_SEED, FinishReason, Sampling

REQUEST = GenerateRequest(
    id="r-1",
    prompt=tuple(range(1000)),
    sampling=Sampling(temperature=0.7, top_k=40, logit_bias={3: -1.5}, seed=MAX_SEED),
    max_tokens=100,
    min_tokens=2,
    end_ids=frozenset({128001, 128009}),
    num_choices=2,
    top_logprobs=3,
    answers=((1, 2), ()),
    finished=frozenset({0}),
)
COMMANDS = [
    Load("/models/a.gguf", ModelSettings(), num_pages=100, context_length=4096),
    Submit(REQUEST),
    Submit(REQUEST, was_admitted=True),
    Abort("r-1"),
    Abort("r-1", choice=1),
]
REPORTS = [
    Loading("placing weights"),
    Ready("cpu (avx2, 2 threads)", 0.01),
    LoadFailed(Failure.of(FormatError("/a.gguf", "magic", b"abcd", "it must be GGUF"))),
    Accepted("r-1"),
    Failed("r-1", Failure.of(Overloaded("the queue is full", retry_after_s=1.5))),
    Stepped(3, 0.1, [Token("r-1", 1, 2, 7, FinishReason.STOP, -0.5, ((7, -0.5), (8, -1.0)), 32)], {"steps": 3}),
    Idle(4, {}),
    Logged("camelid.engine", 30, "two requests wait"),
]


@given(st.lists(st.sampled_from(COMMANDS), max_size=6), st.integers(1, 4000))
def test_commands_survive_any_cut(commands, piece):
    stream = b"".join(pack(command) for command in commands)
    unpacker = Unpacker(command_decoder)
    pieces = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    assert [message for part in pieces for message in unpacker.feed(part)] == commands
    unpacker.finish()


def test_reports_survive():
    assert Unpacker(report_decoder).feed(b"".join(pack(report) for report in REPORTS)) == REPORTS


def test_a_length_over_the_cap_is_refused_before_anything_is_kept():
    with pytest.raises(ProtocolError, match="announced"):
        Unpacker(command_decoder).feed(struct.pack("<I", MAX_FRAME_BYTES + 1))


def test_a_message_over_the_cap_is_not_sent():
    with pytest.raises(ProtocolError, match="must have at most"):
        pack(Abort("x" * (MAX_FRAME_BYTES + 1)))


def test_a_stream_that_ends_inside_a_frame_is_an_error():
    unpacker = Unpacker(command_decoder)
    assert unpacker.feed(pack(Abort("r"))[:-1]) == []
    with pytest.raises(ProtocolError, match="ended inside a frame"):
        unpacker.finish()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_protocol_error(body: bytes):
    unpacker = Unpacker(command_decoder)
    try:
        unpacker.feed(struct.pack("<I", len(body)) + body)
    except ProtocolError:
        return
    unpacker.finish()


def test_a_report_is_not_a_command():
    with pytest.raises(ProtocolError, match="not a known message"):
        Unpacker(command_decoder).feed(pack(Idle(0, {})))


@pytest.mark.parametrize(
    "error",
    [
        FormatError("/a.gguf", "magic", "abcd", "it must be GGUF", hint="download it again"),
        Overloaded("the queue is full", retry_after_s=1.5),
        ContextOverflow(9000, 8192),
        InvalidRequest("n must be 1–8, got 9", field="n"),
    ],
)
def test_an_error_is_the_same_on_the_other_side(error):
    crossed = Failure.of(error).error()
    assert type(crossed) is type(error)
    assert str(crossed) == str(error)
    plain = {name: value for name, value in vars(error).items() if name != "violation"}
    assert {name: value for name, value in vars(crossed).items() if name != "violation"} == plain


def test_the_violation_of_a_format_error_crosses_as_text():
    crossed = Failure.of(FormatError("/a.gguf", "count", 2**40, "at most 65536")).error()
    assert isinstance(crossed, FormatError)
    assert (crossed.violation.field, crossed.violation.value, crossed.violation.rule) == (
        "count",
        str(2**40),
        "at most 65536",
    )


def test_an_error_of_an_unknown_class_stays_an_error():
    assert type(Failure("Path", "odd").error()).__name__ == "CamelidError"
