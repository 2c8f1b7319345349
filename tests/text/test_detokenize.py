"""Text comes out whole whatever the pushes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.text import Tokenizer
from camelid.text.detokenize import Detokenizer, decode

TEXTS = st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("👍🏽中文 é\n")), max_size=60)


@st.composite
def _cuts(draw: st.DrawFn, ids: list[int]) -> list[list[int]]:
    borders = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    return [ids[a:b] for a, b in zip([0, *borders], [*borders, len(ids)], strict=True)]


@settings(max_examples=150, deadline=None)
@given(st.data(), TEXTS)
def test_any_chunking_gives_the_whole_text(llama3: Tokenizer, data: st.DataObject, text: str) -> None:
    detokenizer = Detokenizer(llama3)
    pieces = [detokenizer.push(chunk) for chunk in data.draw(_cuts(llama3.encode(text)))]
    assert "".join(pieces) + detokenizer.flush() == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.lists(st.integers(0, 128300), max_size=40))
def test_any_ids_give_the_text_of_all_their_bytes(llama3: Tokenizer, data: st.DataObject, ids: list[int]) -> None:
    detokenizer = Detokenizer(llama3)
    text = "".join(map(detokenizer.push, data.draw(_cuts(ids)))) + detokenizer.flush()
    shown = (i for i in ids if i not in llama3.control_ids)
    assert text == b"".join(map(llama3.token_bytes, shown)).decode("utf-8", errors="replace")


def test_a_character_appears_with_its_last_byte(llama3: Tokenizer) -> None:
    ids = llama3.encode("a\U0001fadfb")  # an emoji that no token covers
    detokenizer = Detokenizer(llama3)
    shown = [detokenizer.push([i]) for i in ids]
    assert [piece for piece in shown if piece] == ["a", "\U0001fadf", "b"]
    assert len(shown) > 3


def test_a_broken_character_is_replaced_once_it_is_certain(llama3: Tokenizer) -> None:
    start_of_emoji = next(i for i in range(256) if llama3.token_bytes(i) == b"\xf0")
    detokenizer = Detokenizer(llama3)
    assert [detokenizer.push([start_of_emoji]), *map(detokenizer.push, ([], llama3.encode("x")))] == ["", "", "\ufffdx"]
    assert [detokenizer.push([start_of_emoji]), detokenizer.flush()] == ["", "\ufffd"]


def test_control_tokens_are_silent_unless_asked_for(llama3: Tokenizer) -> None:
    tag = llama3.control["<|python_tag|>"].id
    ids = [llama3.bos_id or 0, tag, *llama3.encode("f.call()"), llama3.control["<|eom_id|>"].id]
    assert decode(llama3, ids) == "f.call()"
    assert Detokenizer(llama3, shown=frozenset([tag])).push(ids) == "<|python_tag|>f.call()"
