"""Modelfiles, and the models that are made of them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import camelid
from camelid.errors import BadModelfile, NotFound
from camelid.store.local import find
from camelid.store.making import create
from camelid.store.modelfile import Modelfile, parse_modelfile
from camelid.store.names import parse_name
from camelid.store.store import Store

WHOLE = '''
# a comment
from llama3.1
  PARAMETER temperature 0.5
PARAMETER num_ctx 4096
parameter stop <|x|>
PARAMETER stop "two words "
SYSTEM """You are
"kind"."""
TEMPLATE "{{ .Prompt }}"
LICENSE MIT # not a comment
MESSAGE user Hi
MESSAGE assistant "Hello
there"
REQUIRES 0.14.0
'''


def test_every_instruction_is_read() -> None:
    assert parse_modelfile(WHOLE) == Modelfile(
        base="llama3.1",
        parameters=(("temperature", 0.5), ("num_ctx", 4096), ("stop", "<|x|>"), ("stop", "two words ")),
        template="{{ .Prompt }}",
        system='You are\n"kind".',
        licenses=("MIT # not a comment",),
        messages=(("user", "Hi"), ("assistant", "Hello\nthere")),
        requires="0.14.0",
    )


def test_a_byte_order_mark_and_other_line_ends_change_nothing() -> None:
    assert parse_modelfile("\ufeff" + WHOLE.replace("\n", "\r\n")) == parse_modelfile(WHOLE)


_CHARACTERS = st.characters(blacklist_categories=("Cs", "Cc"), whitelist_characters="\n")
TEXTS = st.text(_CHARACTERS).filter(lambda text: '"""\n' not in text and '""" ' not in text) | st.text('"a\n ').filter(
    lambda text: '""' not in text
)
WORDS = st.text("abc", min_size=1)
PARAMETERS = st.tuples(st.just("temperature"), st.floats(0, 2)) | st.tuples(st.just("stop"), WORDS)


@given(
    st.builds(
        Modelfile,
        base=WORDS,
        parameters=st.lists(PARAMETERS).map(tuple),
        system=st.none() | TEXTS,
        template=st.none() | TEXTS,
        licenses=st.lists(TEXTS, max_size=2).map(tuple),
        messages=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXTS), max_size=2).map(tuple),
    )
)
def test_what_is_written_is_read_back(modelfile: Modelfile) -> None:
    assert parse_modelfile(str(modelfile)) == modelfile


def test_a_text_that_no_quotes_can_hold_is_refused_when_it_is_written() -> None:
    with pytest.raises(BadModelfile, match="no Modelfile can hold"):
        str(Modelfile("a", system='say """\nand "more"\n'))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no FROM line"),
        ("FROM a\nFROM b", "only one FROM"),
        ("FROM", "no instruction"),
        ("FROM a\nBOGUS x", "line 2: 'bogus'"),
        ("FROM a\nPARAMETER temperature hot", "invalid float value"),
        ("FROM a\nPARAMETER top_k 1.5", "invalid int value"),
        ("FROM a\nPARAMETER nonsense 1", "unknown parameter 'nonsense'"),
        ("FROM a\nPARAMETER temperature", "needs a name and a value"),
        ("FROM a\nMESSAGE robot hi", "role of a MESSAGE"),
        ('FROM a\nSYSTEM """open', "never ends"),
        ('FROM a\nSYSTEM "a" b', "never ends"),
        ("FROM a\nREQUIRES soon", "must be a version"),
        ("FROM a\nDRAFT b", "DRAFT is not supported"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, error: str) -> None:
    with pytest.raises(BadModelfile, match=error):
        parse_modelfile(text)


@given(st.text(alphabet='FROM PARAMETER SYSTEM "\n#abc1', max_size=60))
def test_no_text_is_read_wrongly_without_an_error_of_ours(text: str) -> None:
    with suppress(BadModelfile):
        parse_modelfile(text)


def test_a_model_that_was_made_answers_as_its_modelfile_says(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "weights.gguf").write_bytes(find("cria").weights.read_bytes())
    first = parse_modelfile('FROM weights.gguf\nSYSTEM "You are cria."\nPARAMETER temperature 0\nMESSAGE user Hi')
    create(store, parse_name("first"), first, tmp_path)
    second = parse_modelfile("FROM first\nPARAMETER top_k 5")
    create(store, parse_name("second"), second, tmp_path)
    with camelid.load("second", models=str(store.folder), threads=1) as model, camelid.load("cria", threads=1) as plain:
        assert model._model.model.sampling.top_k == 5
        begun = [("system", "You are cria."), ("user", "Hi"), ("user", "Hello!")]
        asked = [{"role": role, "content": text} for role, text in begun]
        expected = plain.chat(asked, temperature=0, max_tokens=8)
        assert model.chat("Hello!", temperature=0, max_tokens=8).text == expected.text
        own = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
        begun = [("system", "Be brief."), ("user", "Hi"), ("user", "Hello!")]
        asked = [{"role": role, "content": text} for role, text in begun]
        assert (
            model.chat(own, max_tokens=4, temperature=0).usage == plain.chat(asked, max_tokens=4, temperature=0).usage
        )


def test_what_cannot_be_made_makes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for text, error in (("FROM nothing", NotFound), ("FROM cria\nADAPTER x", NotFound)):
        with pytest.raises(error):
            create(store, parse_name("made"), parse_modelfile(text), tmp_path)
    assert list(store.entries()) == []
