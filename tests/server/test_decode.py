"""Bodies that are not what they should be: each is refused with a sentence, and none of them can hurt."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.errors import InvalidRequest
from camelid.server.decode import check_depth, decode
from camelid.server.openai.bodies import ChatBody

CHAT = msgspec.json.Decoder(ChatBody)
PREFIX = b'{"messages":[{"role":"user","content":"hi"}],'


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"", None, "the body is not valid JSON: input data was truncated"),
        (b"{", None, "the body is not valid JSON: input data was truncated"),
        (b"nonsense", None, "the body is not valid JSON: invalid character (byte 4)"),
        (b"[]", None, "the body: expected an object, got a list"),
        (b"{}", "messages", "messages is required"),
        (PREFIX + b'"temprature":1}', "temprature", "unknown field 'temprature'"),
        (PREFIX + b'"temperature":NaN}', "temperature", "temperature must be 0–100, got NaN"),
        (PREFIX + b'"temperature": -Infinity}', "temperature", "temperature must be 0–100, got -Infinity"),
        (PREFIX + b'"top_p":1e999}', "top_p", "top_p must be 0–1, got a number beyond all bounds"),
        (PREFIX + b'"user":NaN}', "user", "user must be a finite number, got NaN"),
        (PREFIX + b'"user":"\xff"}', None, "the body is not valid UTF-8"),
        (PREFIX + b'"user":"\xed\xa0\x80"}', None, "the body is not valid UTF-8"),
        (PREFIX + b'"stop":["a",1]}', "stop[1]", "stop[1]: expected a string, got a whole number"),
        (PREFIX + b'"logit_bias":{"x":1}}', "logit_bias", "logit_bias: expected a whole number, got a string"),
        (PREFIX + b'"stream_options":{"x":1}}', "stream_options.x", "unknown field 'stream_options.x'"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_naming_the_field(body: bytes, field: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(body, CHAT)
    assert (caught.value.field, caught.value.message) == (field, message)


def test_a_misspelt_field_gets_a_suggestion() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(PREFIX + b'"temprature":1}', CHAT)
    assert caught.value.hint == "did you mean 'temperature'?"


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_nesting_without_end_is_refused(bracket: bytes) -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        decode(PREFIX + b'"prediction":' + bracket * 500_000, CHAT)


@pytest.mark.parametrize(("depth", "is_taken"), [(64, True), (65, False), (100_000, False)])
def test_free_form_values_are_nested_no_deeper_than_the_limit(depth: int, is_taken: bool) -> None:
    value: object = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    if is_taken:
        check_depth(value, 64, "parameters")
    else:
        with pytest.raises(InvalidRequest, match="parameters must be nested at most 64 levels deep"):
            check_depth(value, 64, "parameters")
    while isinstance(value, (list, dict)):  # level by level: dropping it at once would recurse
        value = value[0] if isinstance(value, list) else value["a"]


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_body_or_refused(data: bytes) -> None:
    for body in (data, PREFIX + data):
        with suppress(InvalidRequest):
            assert isinstance(decode(body, CHAT), ChatBody)
