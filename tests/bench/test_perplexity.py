"""Perplexity: each token counted once, and the same number as a float64 computation of the whole model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from camelid.backends.base import Batch, CacheType
from camelid.backends.reference import ReferenceBackend
from camelid.bench.perplexity import Windows, measure_perplexity
from camelid.cli.eval import command
from camelid.errors import InvalidRequest
from camelid.formats import open_checkpoint
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.runtime.library import load
from camelid.settings import ModelSettings
from camelid.store.local import find

TEXT = "What is 17 + 25? The little llama lives in the mountains, and it says: sort the words river, apple and stone."
SETTINGS = ModelSettings(device="cpu", threads=1, cache_type="f32")


@given(st.integers(2, 400), st.integers(2, 60), st.data())
def test_every_token_but_the_first_is_counted_once(num_tokens: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window - 1))
    counted = []
    for start, end, first in Windows(window, stride).spans(num_tokens):
        assert start < first < end <= start + window
        assert first == 1 or first - start >= window - stride
        counted += range(first, end)
    assert counted == list(range(1, num_tokens))


def reference_losses(ids: list[int], windows: Windows) -> list[float]:
    """Return −ln p of each token but the first, from logits in float64."""
    backend = ReferenceBackend()
    with open_checkpoint(find("cria").weights) as checkpoint:
        model = load_model(checkpoint, backend)
    backend.open_pages(attention_spec(model.spec), CacheType.F32, 4)
    losses: list[float] = []
    for start, end, counted in windows.spans(len(ids)):
        count = end - start
        batch = Batch(
            ids=np.array(ids[start:end], np.int32),
            positions=np.arange(count, dtype=np.int32),
            row_starts=np.array([0, count], np.int32),
            page_table=np.arange(4, dtype=np.int32)[None],
            wanted=np.arange(count, dtype=np.int32),
        )
        logits = np.asarray(backend.run(model, batch), np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        losses += [-float(logprobs[place - start - 1, ids[place]]) for place in range(counted, end)]
    return losses


@pytest.mark.parametrize("windows", [Windows(100, 50), Windows(24, 7)])
def test_the_bundled_model_has_the_perplexity_of_a_float64_reference(windows: Windows) -> None:
    with load("cria", context_length=64) as model:
        ids = [*model.tokenize("<|begin_of_text|>", parse_special=True), *model.tokenize(TEXT)]
    losses = reference_losses(ids, windows)
    found = measure_perplexity("cria", SETTINGS, TEXT, windows)
    assert found.num_tokens == len(ids) - 1 == len(losses)
    assert found.log_loss == pytest.approx(math.fsum(losses) / len(losses), rel=4e-3)  # inputs are rounded to 8 bits
    assert found.bits_per_byte == pytest.approx(found.log_loss * len(losses) / math.log(2) / len(TEXT.encode()))


def test_the_command_reads_a_file_or_a_text(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    flags = ["--window", "24", "--stride", "7", "--threads", "1", "--json"]
    read = CliRunner().invoke(command, ["perplexity", "cria", "--file", str(file), *flags])
    given_ = CliRunner().invoke(command, ["perplexity", "cria", TEXT, *flags])
    assert read.stdout == given_.stdout
    values = json.loads(read.stdout)
    assert (values["window"], values["stride"], values["num_bytes"]) == (24, 7, len(TEXT))
    assert values["perplexity"] == math.exp(values["log_loss"])


@pytest.mark.parametrize(("window", "stride", "field"), [(1, 1, "window"), (8, 8, "stride"), (8, 0, "stride")])
def test_windows_that_miss_tokens_are_refused(window: int, stride: int, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Windows(window, stride)
    assert refused.value.field == field


def test_a_text_of_one_token_cannot_be_predicted() -> None:
    with pytest.raises(InvalidRequest, match="at least two tokens"):
        measure_perplexity("cria", SETTINGS, "", Windows(8, 4))
