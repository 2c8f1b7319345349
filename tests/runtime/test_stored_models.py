"""A model made of a Modelfile runs as it says: template, stop strings, lengths, context, seed, version."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from camelid.errors import InvalidRequest, TemplateError, UnsupportedModel
from camelid.runtime import turn
from camelid.runtime.adapters import ModelAdapters
from camelid.runtime.loading import describe, read_text_side
from camelid.runtime.makers import recommended_stopping, with_placement
from camelid.runtime.model import Description, LoadedModel, NoTemplate, TextSide
from camelid.settings import ModelSettings
from camelid.store.local import find
from camelid.store.making import create
from camelid.store.modelfile import parse_modelfile
from camelid.store.names import parse_name
from camelid.store.store import Store
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    FinishReason,
    Generation,
    Message,
    Stopping,
    Text,
    ToolCalled,
    ToolSpec,
)

from .test_turn import Scripted, ScriptedEngine, chat, collect, engine_of

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
WEATHER = ToolSpec("get_weather", "", {"type": "object"})
TEMPLATE = (
    "{{ .System }}|{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}"
    "{{ if .ToolCalls }}<call>{{ end }}{{ if .Tools }}{{ .Tools }}{{ end }}"
)
MODELFILE = f'''FROM cria
TEMPLATE """{TEMPLATE}"""
SYSTEM Be brief.
MESSAGE user Hi
PARAMETER stop <|start_header_id|>
PARAMETER stop END
PARAMETER num_predict 9
PARAMETER num_ctx 512
PARAMETER num_thread 1
PARAMETER repeat_last_n -1
PARAMETER typical_p 0.5
PARAMETER seed 7
REQUIRES 0.14.0
'''


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("models")
    store = Store(folder)
    create(store, parse_name("made"), parse_modelfile(MODELFILE), folder)
    return store


@pytest.fixture(scope="module")
def described(store: Store) -> Description:
    return describe("made", ModelSettings(device="reference", models=str(store.folder)))


@pytest.fixture(scope="module")
def text(described: Description) -> TextSide:
    return read_text_side(described)


def loaded(described: Description, text: TextSide, *script: Scripted) -> LoadedModel:
    engine = ScriptedEngine(text, list(script))
    return LoadedModel(described, text, engine, ModelAdapters(engine))


def test_parameters_place_and_sample_the_model(described: Description, text: TextSide) -> None:
    assert described.sizing.context_length == 512
    assert described.settings.threads == 1
    sampling = text.sampling
    assert (sampling.seed, sampling.penalty_window, sampling.typical_p) == (7, None, 0.5)
    assert text.stopping == Stopping(max_tokens=9, stop=("<|start_header_id|>", "END"))


def test_the_prompt_is_what_the_modelfile_s_template_writes(described: Description, text: TextSide) -> None:
    model = loaded(described, text, (0, "4", LENGTH))
    ids = turn.encode_chat(model, chat("And you?"))
    prompt = text.tokenizer.spelling_of(text.tokenizer.bos_id) + "Be brief.|system:Be brief.;user:Hi\n\nAnd you?;"
    assert ids == text.tokenizer.encode(prompt, parse_special=True)


def test_the_template_of_the_weights_counts_where_go_s_is_switched_off(described: Description, store: Store) -> None:
    settings = ModelSettings(device="reference", models=str(store.folder), go_template=False)
    side = read_text_side(describe("made", settings))
    plain = read_text_side(describe("cria", settings))
    assert side.template.render([Message("user", "Hi")]).text == plain.template.render([Message("user", "Hi")]).text


def test_stop_strings_and_length_of_the_makers_hold_unless_others_are_asked_for(
    described: Description, text: TextSide
) -> None:
    script = [(0, letter, None) for letter in "one END"] + [(0, "x", LENGTH)]
    model = loaded(described, text, *script)
    events = collect(turn.chat(model, chat()))
    assert "".join(event.text for event in events if isinstance(event, Text)) == "one "
    (asked,) = engine_of(model).asked
    header = text.tokenizer.control["<|start_header_id|>"].id
    assert (asked.max_tokens, asked.end_ids) == (9, text.tokenizer.eos_ids | {header})
    model = loaded(described, text, *script)
    events = collect(turn.chat(model, chat(stopping=Stopping(max_tokens=30, stop=("x",)))))
    assert "".join(event.text for event in events if isinstance(event, Text)) == "one END"
    (asked,) = engine_of(model).asked
    assert (asked.max_tokens, asked.end_ids) == (30, text.tokenizer.eos_ids)


def test_a_request_may_bring_a_template(described: Description, text: TextSide) -> None:
    model = loaded(described, text, (0, "4", LENGTH))
    request = ChatRequest("made", (Message("user", "Hi"),), template="<u>{{ .Prompt }}</u>")
    bos = text.tokenizer.spelling_of(text.tokenizer.bos_id)
    assert turn.encode_chat(model, request) == text.tokenizer.encode(f"{bos}<u>Hi\n\nHi</u>", parse_special=True)
    with pytest.raises(TemplateError, match="line 1"):
        turn.encode_chat(model, ChatRequest("made", (Message("user", "Hi"),), template="{{ nope }}"))


def test_a_gap_is_filled_where_a_template_has_a_place_for_it(described: Description, text: TextSide) -> None:
    model = loaded(described, text, (0, "4", LENGTH))
    with pytest.raises(InvalidRequest, match="no place for a suffix"):
        collect(turn.complete(model, CompletionRequest("made", "a", suffix="b")))
    template = "<p>{{ .Prompt }}<s>{{ .Suffix }}<m>"
    collect(turn.complete(model, CompletionRequest("made", "a", suffix="b", template=template)))
    (asked,) = engine_of(model).asked
    bos = text.tokenizer.spelling_of(text.tokenizer.bos_id)
    assert [*asked.prompt] == text.tokenizer.encode(f"{bos}<p>a<s>b<m>", parse_special=True)


def test_calls_are_found_behind_the_template_s_tag(described: Description, text: TextSide) -> None:
    said = '<call>{"name": "get_weather", "arguments": {"city": "Oslo"}}'
    ids = [text.tokenizer.spelling_of(token) for token in text.tokenizer.encode(said)]
    model = loaded(described, text, *((0, piece, None) for piece in ids[:-1]), (0, ids[-1], STOP))
    request = ChatRequest("made", (Message("user", "Hi"),), (WEATHER,), Generation(stopping=Stopping(max_tokens=99)))
    events = collect(turn.chat(model, request))
    (called,) = [event for event in events if isinstance(event, ToolCalled)]
    assert (called.call.name, called.call.arguments) == ("get_weather", '{"city": "Oslo"}')
    assert not [event for event in events if isinstance(event, Text)]


def test_a_template_that_cannot_be_read_leaves_a_model_for_completions(store: Store, tmp_path: Path) -> None:
    create(store, parse_name("broken"), parse_modelfile("FROM cria\nTEMPLATE {{ nope }}"), tmp_path)
    side = read_text_side(describe("broken", ModelSettings(device="reference", models=str(store.folder))))
    assert isinstance(side.template, NoTemplate)
    with pytest.raises(TemplateError, match="there is no function 'nope'"):
        side.template.render([Message("user", "Hi")])


def test_a_model_that_requires_what_is_not_there_yet_is_refused(store: Store, tmp_path: Path) -> None:
    create(store, parse_name("future"), parse_modelfile("FROM cria\nREQUIRES 99.0.0"), tmp_path)
    with pytest.raises(UnsupportedModel, match=r"requires Ollama 99\.0\.0"):
        describe("future", ModelSettings(device="reference", models=str(store.folder)))


def test_what_an_operator_sets_wins_over_parameters() -> None:
    parameters = {"num_ctx": 100_000, "num_thread": 3, "num_gpu": 0}
    own = ModelSettings(context_length=64, threads=2, device="reference")
    assert with_placement(own, parameters, 2048) == own
    given = with_placement(ModelSettings(), parameters, 2048)
    assert (given.context_length, given.threads, given.device) == (2048, 3, "cpu")
    assert with_placement(ModelSettings(), {"num_ctx": "many", "num_thread": True}, 2048) == ModelSettings()


def test_stop_strings_that_cannot_be_are_passed_over() -> None:
    assert recommended_stopping({"stop": ["a", "", 3, "a"], "num_predict": -1}) == Stopping(stop=("a",))
    assert recommended_stopping({"stop": "a"}) == Stopping(stop=("a",))
    assert recommended_stopping({"stop": ["x" * 1000]}) == Stopping()


def test_a_base_s_parameters_and_licences_stay(store: Store, tmp_path: Path) -> None:
    first = "FROM cria\nPARAMETER top_k 5\nPARAMETER stop a\nLICENSE MIT\nTEMPLATE {{ .Prompt }}"
    create(store, parse_name("first"), parse_modelfile(first), tmp_path)
    second = "FROM first\nPARAMETER temperature 0.5\nPARAMETER stop b\nLICENSE MIT\nLICENSE BSD"
    create(store, parse_name("second"), parse_modelfile(second), tmp_path)
    files = find("second", str(store.folder))
    assert files.parameters == {"top_k": 5, "stop": ["b"], "temperature": 0.5}
    assert (files.licenses, files.template) == (("MIT", "BSD"), "{{ .Prompt }}")


def test_an_answer_is_computed_with_a_modelfile_s_template(store: Store) -> None:
    from camelid.runtime.runtime import Runtime

    async def ask() -> list[object]:
        runtime = Runtime(ModelSettings(models=str(store.folder)), in_process=True)
        try:
            await runtime.load("made")
            return [event async for event in runtime.chat(ChatRequest("made:latest", (Message("user", "Hello!"),)))]
        finally:
            await runtime.close()

    assert asyncio.run(ask())
