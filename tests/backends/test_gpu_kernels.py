"""The Triton kernels against their plain twins.

On a machine with a GPU they run on it; elsewhere Triton's interpreter runs them on the CPU, and they are compiled for
the GPUs that they are meant for.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which only the kernels do
triton = pytest.importorskip("triton")

from camelid.backends.gpu.kernels import fast, twin  # noqa: E402
from camelid.backends.gpu.kernels.blocks import DECODERS, decode  # noqa: E402
from camelid.backends.gpu.kernels.spans import Spans  # noqa: E402
from camelid.backends.gpu.pages import Kept, to_codes  # noqa: E402
from camelid.formats.blocks import BlockType, encode  # noqa: E402
from camelid.formats.blocks import decode as decode_on_host  # noqa: E402

DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
TYPES = [pytest.param(block_type, id=block_type.name) for block_type in DECODERS]


def rows_of(block_type: BlockType, num_rows: int, columns: int) -> np.ndarray:
    weights = np.random.default_rng(7).standard_normal((num_rows, columns)).astype(np.float32)
    return encode(weights, block_type).reshape(num_rows, -1)


def normal(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(11).standard_normal(shape).astype(np.float32)).to(DEVICE)


@pytest.mark.parametrize("block_type", TYPES)
def test_blocks_decode_as_on_the_host(block_type: BlockType) -> None:
    rows = rows_of(block_type, 5, 512)
    found = decode(torch.from_numpy(rows.copy()).to(DEVICE), block_type).cpu().numpy()
    np.testing.assert_allclose(found, decode_on_host(rows, block_type), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("num_tokens", "splits"), [(1, None), (3, 2), (17, None), (40, 1)])
@pytest.mark.parametrize("block_type", TYPES)
def test_products_equal_those_of_the_decoded_weight(block_type: BlockType, num_tokens: int, splits: int | None) -> None:
    rows = torch.from_numpy(rows_of(block_type, 45, 768).copy()).to(DEVICE)  # not a multiple of a tile
    x = normal(num_tokens, 768)
    torch.testing.assert_close(
        fast.multiply(x, rows, block_type, splits), twin.multiply(x, rows, block_type), rtol=1e-5, atol=1e-4
    )


def test_few_rows_are_split_and_many_are_not() -> None:
    from camelid.backends.gpu.kernels.attend import wanted_segments
    from camelid.backends.gpu.kernels.multiply import wanted_splits

    assert [wanted_splits(programs, 16, 132) for programs in (32, 128, 448, 4008)] == [8, 4, 1, 1]
    assert wanted_splits(32, 3, 132) == 1  # nothing is gained by splitting three blocks
    assert [wanted_segments(programs, 4096, 132) for programs in (8, 64, 256, 2048)] == [32, 4, 1, 1]
    assert [wanted_segments(8, pages, 132) for pages in (4, 64, 256)] == [1, 8, 32]


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 2, 16), (8, 1, 24), (3, 3, 64), (32, 1, 32)])
def test_attention_over_pages_equals_the_plain_one(heads: int, kv_heads: int, dim: int) -> None:
    keys, values = normal(10, kv_heads, 32, dim), -normal(10, kv_heads, 32, dim)
    values[2, :, 17:] = float("nan")  # never written
    table = torch.tensor([[3, 5, 0, 9], [7, 1, 2, 4], [6, 8, 8, 8]], device=DEVICE)
    positions = torch.tensor([60, 61, 62, 63, 64, 80, 0, 1, 2], device=DEVICE)
    row_starts = [0, 5, 6, 9]
    queries = normal(9, heads, dim)
    spans = Spans(table, row_starts, positions)
    found = fast.attend(queries, Kept(keys, values), spans, 0.3)
    kept = Kept(keys, torch.nan_to_num(values))
    torch.testing.assert_close(found, twin.attend(queries, kept, spans, 0.3), rtol=1e-5, atol=1e-5)

    coded_keys, coded_values = to_codes(keys), to_codes(kept.values)
    coded_values[1][2, :, 17:] = float("nan")
    found = fast.attend(
        queries,
        Kept(coded_keys[0], coded_values[0], coded_keys[1], coded_values[1]),
        spans,
        0.3,
    )
    kept = Kept(coded_keys[0], coded_values[0], coded_keys[1], torch.nan_to_num(coded_values[1]))
    torch.testing.assert_close(found, twin.attend(queries, kept, spans, 0.3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("segments", [2, 8])
def test_pages_split_into_segments_give_what_one_program_gives(segments: int) -> None:
    """Some tiles end before the last segments begin, and some rows see nothing of theirs."""
    keys, values = normal(12, 2, 32, 16), -normal(12, 2, 32, 16)
    table = torch.tensor([[3, 5, 0, 9, 11], [7, 1, 2, 4, 10]], device=DEVICE)
    positions = torch.tensor([124, 125, 126, 127, 128, 129, 3], device=DEVICE)
    spans = Spans(table, [0, 6, 7], positions)
    queries = normal(7, 8, 16)
    found = fast.attend(queries, Kept(keys, values), spans, 0.3, segments)
    torch.testing.assert_close(found, twin.attend(queries, Kept(keys, values), spans, 0.3), rtol=1e-5, atol=1e-5)


COMPILE = """
import warnings; warnings.simplefilter("ignore")
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from camelid.backends.gpu.kernels import fast
from camelid.backends.gpu.kernels.attend import _attend, _join
from camelid.backends.gpu.kernels.multiply import STEPS, _multiply
from camelid.formats.blocks import BlockType

def check(function, signature, constants):
    source = ASTSource(function, {**signature, **dict.fromkeys(constants, "constexpr")}, constants)
    assert len(compile(source, target=GPUTarget("cuda", %d, 32)).asm["cubin"]) > 1000

numbers = dict.fromkeys(("num_tokens", "num_rows", "columns", "row_bytes"), "i32")
IS_NEWEST = %d == 90  # compiling takes a second each: all of them for one of the two
for block_type, step in list(STEPS.items())[: None if IS_NEWEST else 1]:
    check(_multiply, {"x": "*bf16", "weight": "*u8", "halves": "*fp16", "out": "*bf16", **numbers},
          {"BLOCK": block_type.weights_per_block, "STEP": step, "ROWS": 32, "TOKENS": 16})
check(_multiply, {"x": "*bf16", "weight": "*u8", "halves": "*fp16", "out": "*fp32", **numbers},
      {"BLOCK": 256, "STEP": STEPS[BlockType.Q4_K], "ROWS": 32, "TOKENS": 64})
indexes = dict.fromkeys(("table", "firsts", "ends", "sequences", "positions"), "*i64")
for kept, segments in (("*fp16", 8), ("*i8", 8), ("*fp16", 1))[: None if IS_NEWEST else 1]:
    scales = dict.fromkeys(("key_scales", "value_scales"), "*fp16")
    out = "*bf16" if segments == 1 else "*fp32"
    check(_attend, {"q": "*bf16", "keys": kept, "values": kept, **scales, **indexes, "out": out, "peaks": out,
                    "sums": out, "scale": "fp32", "num_heads": "i32", "most_pages": "i32", "num_tokens": "i32"},
          {"GROUP": 4, "TOKENS": 4, "ROWS": 16, "WIDTH": 128, "DIM": 128, "PAGE": 32, "CODED": kept == "*i8",
           "SEGMENTS": segments})
check(_join, {"parts": "*fp32", "peaks": "*fp32", "sums": "*fp32", "out": "*bf16", "count": "i32"},
      {"WIDTH": 128, "DIM": 128, "SEGMENTS": 8})
"""


@pytest.mark.parametrize("capability", [80, 90])
def test_all_kernels_compile_for_the_gpus_they_are_meant_for(capability: int) -> None:
    """Needs no GPU: Triton brings its own assembler."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE.replace("%d", str(capability))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
