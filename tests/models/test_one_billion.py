"""A model of Llama 3.2 1B's shape in Q4_K_M, with Meta's vocabulary: written by our command, it generates what float64
says.

Equality of greedy ids is asked for where the reference's two best logits are further apart than the error bound. The
error at each position is measured over the whole vocabulary; its size is bounded too, so a fault in a kernel cannot
hide behind a wider bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from tiny_models import all_logits, batch_of

from camelid.backends.base import PAGE_TOKENS, Backend, CacheType
from camelid.backends.reference import ReferenceBackend
from camelid.formats import open_checkpoint
from camelid.models.load import Model, load_model
from camelid.models.rope import attention_spec

NUM_PROMPT, NUM_GENERATED = 64, 32
RELATIVE_ERROR = 0.031  # of logits, from rounding inputs to 8 bits in 16 random layers; measured: 0.028 at most
DEVIATIONS = 6  # two logits differ in error by less than this many deviations of one: 4.2 of the difference
NUM_COUNTED = 45  # of the 95 positions; measured: 59


@pytest.mark.timeout(1200)
def test_greedy_ids_of_a_1b_model_equal_those_of_float64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("camelid.backends.cpu._native", reason="the cpu backend's extension is not built")
    from camelid.backends.cpu.backend import CpuBackend

    write_by_command(tmp_path / "1b.gguf")
    prompt = np.random.default_rng(0).integers(0, 128_000, NUM_PROMPT).tolist()

    with open_checkpoint(tmp_path / "1b.gguf") as checkpoint:
        backend, reference = CpuBackend(threads=2), ReferenceBackend()
        answer, logits = generate(load_model(checkpoint, backend), backend, prompt)
        exact = all_logits(load_model(checkpoint, reference), reference, [*prompt, *answer[:-1]])
    (tmp_path / "1b.gguf").unlink()  # pytest keeps folders of past runs, and this is 0.8 GB

    error = (logits - exact).std(axis=1)
    size = exact.std(axis=1)
    best = np.sort(exact, axis=1)[:, -2:]
    is_clear = best[:, 1] - best[:, 0] > DEVIATIONS * error
    is_same = logits.argmax(axis=1) == exact.argmax(axis=1)
    with capsys.disabled():
        print(
            f"\n1B Q4_K_M, {len(exact)} positions, {NUM_GENERATED} of them generated:"
            f" {is_clear.sum()} counted, {is_same[is_clear].sum()} of these equal;"
            f" {(~is_clear).sum()} too close to call, {is_same[~is_clear].sum()} of these equal;"
            f" relative error of the logits {(error / size).max():.3f} at most"
        )
    assert (error / size).max() < RELATIVE_ERROR
    assert is_same[is_clear].all()
    assert is_clear.sum() >= NUM_COUNTED


def write_by_command(path: Path) -> None:
    import llama_models.llama3

    from camelid.cli.bench import command

    vocabulary = Path(llama_models.llama3.__file__).parent / "tokenizer.model"
    result = CliRunner().invoke(
        command, ["synth", "1b", "--quant", "Q4_K_M", "--vocabulary", str(vocabulary), "--out", str(path)]
    )
    assert result.exit_code == 0, result.output


def generate(model: Model, backend: Backend, prompt: Sequence[int]) -> tuple[list[int], NDArray[np.float64]]:
    """Return NUM_GENERATED greedy ids, and the logits at every position up to the one that gave the last of them."""
    pages = list(range(-(-(len(prompt) + NUM_GENERATED) // PAGE_TOKENS)))
    backend.open_pages(attention_spec(model.spec), CacheType.F16, len(pages))
    logits = [np.array(backend.run(model, batch_of([(prompt, 0, pages)])))]
    answer = [int(logits[0][-1].argmax())]
    while len(answer) < NUM_GENERATED:
        position = len(prompt) + len(answer) - 1
        logits.append(np.array(backend.run(model, batch_of([(answer[-1:], position, pages)]))))
        answer.append(int(logits[-1][0].argmax()))
    return answer, np.concatenate(logits).astype(np.float64)
