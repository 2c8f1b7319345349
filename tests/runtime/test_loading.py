"""From a name to all of a model but its weights, and what its makers recommend."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from camelid.errors import BadVocabulary, TemplateError
from camelid.formats import GgufCheckpoint
from camelid.models.synth import write_synthetic
from camelid.runtime.loading import describe, read_text_side
from camelid.runtime.makers import LLAMA_SAMPLING, chat_template, recommended_sampling
from camelid.runtime.model import Description, TextSide
from camelid.settings import ModelSettings
from camelid.types import Message, Sampling

REFERENCE = ModelSettings(device="reference")


def test_the_bundled_model_is_described_without_its_weights(cria: Description, cria_text: TextSide) -> None:
    assert (cria.files.name, cria.spec.architecture, cria.sizing.context_length) == ("cria", "llama", 2048)
    prompt = cria_text.template.render([Message("user", "Hi")]).text
    assert prompt.endswith(
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_a_model_without_a_template_and_with_llama_3_s_tokens_has_llama_3_s(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "tiny.gguf", "tiny", "Q8_0")
    description = describe(str(tmp_path / "tiny.gguf"), REFERENCE)
    text = read_text_side(description)
    try:
        prompt = text.template.render([Message("user", "Hi")]).text
    except TemplateError:
        assert "<|start_header_id|>" not in text.tokenizer.control
    else:
        assert "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>" in prompt
    finally:
        text.template.close()


def checkpoint(path: Path, **metadata: Any) -> Any:
    return SimpleNamespace(path=path, metadata=metadata)


def folder(path: Path, **files: object) -> Any:
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return checkpoint(path)


@pytest.mark.parametrize(
    ("config", "sampling"),
    [
        ({"temperature": 0.6, "top_p": 0.9, "do_sample": True}, Sampling(temperature=0.6, top_p=0.9)),
        ({"temperature": 0.7, "top_k": 40, "repetition_penalty": 1.1}, Sampling(0.7, 40, repetition_penalty=1.1)),
        ({"do_sample": False, "temperature": 0.6}, Sampling(temperature=0.0)),
        ({"eos_token_id": 5}, LLAMA_SAMPLING),
        ({"temperature": -1}, LLAMA_SAMPLING),
        ({"temperature": "hot"}, LLAMA_SAMPLING),
        ([1, 2], LLAMA_SAMPLING),
    ],
)
def test_sampling_of_a_folder(tmp_path: Path, config: object, sampling: Sampling) -> None:
    assert recommended_sampling(folder(tmp_path, generation_config=config)) == sampling


def test_sampling_of_a_gguf_file() -> None:
    made = checkpoint(
        Path("a.gguf"),
        **{
            "general.architecture": "llama",
            "general.sampling.temp": 0.6000000238418579,
            "general.sampling.top_k": 40,
            "general.sampling.top_p": 0.949999988079071,
        },
    )
    assert recommended_sampling(made) == Sampling(temperature=0.6, top_k=40, top_p=0.95)


def test_the_template_of_a_folder(tmp_path: Path) -> None:
    assert chat_template(folder(tmp_path)) is None
    assert chat_template(folder(tmp_path, tokenizer_config={"chat_template": "a"})) == "a"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert chat_template(folder(tmp_path, tokenizer_config={"chat_template": named})) == "d"
    (tmp_path / "chat_template.jinja").write_text("own file")
    assert chat_template(checkpoint(tmp_path)) == "own file"


def test_a_folder_without_a_tokenizer_says_what_is_missing(tmp_path: Path, cria: Description) -> None:
    from camelid.runtime.vocabularies import read_tokenizer

    with pytest.raises(BadVocabulary, match=r"holds neither tokenizer\.json nor tokenizer\.model"):
        read_tokenizer(folder(tmp_path, config={}))


def test_the_front_reads_no_weights(cria: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, name: str) -> None:
        raise AssertionError(f"read {name}")

    monkeypatch.setattr(GgufCheckpoint, "raw", refuse)
    assert describe("cria", REFERENCE).num_parameters == cria.num_parameters
    read_text_side(cria).template.close()
