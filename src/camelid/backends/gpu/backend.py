"""The gpu backend: the contract of `base.py` on PyTorch, for CUDA devices.

On `torch.device("cpu")` it computes the same way with the kernels' plain twins: that is how it is tested where there is
no GPU, not a way to run models (the cpu backend is). It does not promise the same bits whatever the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from camelid.errors import OutOfMemory, UnsupportedFormat

from ..base import AttentionSpec, Batch, CacheType, Draw, Drawn, Forward, Memory, Tensor
from .graphs import CudaRecorder, Graphs, Recorder
from .kernels import twin
from .ops import GpuOps, Kernels
from .pages import Pages
from .parallel import ALONE, Group
from .sampling import Rows, sample
from .sizes import page_bytes
from .step import FixedStep
from .weights import Pair, Placed, place

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class GpuBackend:
    """Computes on `device`, products in `dtype` (default: bfloat16 where the device has it, else float16)."""

    def __init__(
        self,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        kernels: Kernels | None = None,
        group: Group = ALONE,
        recorder: Recorder | None = None,
        is_fp8: bool = False,
    ) -> None:
        """Be ready to take weights in. `group`: the ranks that compute the model, this one among them; `recorder`: what
        records steps, on a GPU CUDA graphs, elsewhere nothing; `is_fp8`: whether float weights are rounded to 8 bits.
        """
        self._device = device or torch.device("cuda")
        self._dtype = dtype or _best_dtype(self._device)
        self._kernels = kernels or _kernels(self._device)
        self._pages: Pages | None = None
        self._group = group
        self._is_fp8 = is_fp8
        self._recorder = recorder or (CudaRecorder(self._device) if self._device.type == "cuda" else None)
        self._graphs: Graphs | None = None

    @property
    def name(self) -> str:
        """`gpu` with the device's name and the type that products are computed in."""
        device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type
        ranks = f", {self._group.size} ranks" if self._group.size > 1 else ""
        return f"gpu ({device}, {str(self._dtype).removeprefix('torch.')}{ranks})"

    def place(self, tensor: Tensor) -> Placed:
        """Copy a weight to the device. Raises UnsupportedFormat for its block type, OutOfMemory."""
        if not tensor.block_type.is_decodable:
            raise UnsupportedFormat(tensor.name, "its block type", tensor.block_type.name, "it cannot be decoded")
        try:
            return place(tensor, self._device, self._dtype, is_fp8=self._is_fp8)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{tensor.name} does not fit on the device beside the weights before it",
                hint="take a smaller model or quantization, or --device cpu",
            ) from error

    def place_vector(self, values: NDArray[np.float32]) -> torch.Tensor:
        """Copy a norm or a bias to the device."""
        return torch.from_numpy(np.array(values, np.float32)).to(self._device)

    def place_low_rank(self, down: NDArray[np.floating], up: NDArray[np.floating], scale: float) -> Pair:
        """Copy a pair of small matrices to the device, in the type of the products. Raises OutOfMemory."""
        try:
            parts = [torch.from_numpy(np.ascontiguousarray(one)).to(self._device, self._dtype) for one in (down, up)]
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                "an adapter does not fit on the device beside the model",
                hint="unload another adapter, or take a smaller cache",
            ) from error
        return Pair(parts[0], parts[1], scale)

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        """Return the bytes of one page over all layers."""
        return page_bytes(attention, cache_type)

    def open_pages(self, attention: AttentionSpec, cache_type: CacheType, num_pages: int) -> None:
        """Allocate the pages. Raises OutOfMemory."""
        self._pages = self._graphs = None  # the old ones go first
        try:
            self._pages = Pages(attention, cache_type, num_pages + 1, self._device)  # the last pads recorded steps
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(
                f"a cache of {num_pages} pages needs {num_pages * self.page_bytes(attention, cache_type) >> 20} MiB",
                hint="ask for a shorter context (--context-length), or for fewer sequences at a time",
            ) from error
        if self._recorder is not None:
            self._graphs = Graphs(self._recorder, attention, num_pages, self._device, self._compute)

    def run(self, model: Forward, batch: Batch) -> Rows:
        """Copy the pages that `batch` names, run the forward pass, return the logits (W, V). Raises OutOfMemory."""
        return self._within_memory(lambda: self._run(model, batch))

    @torch.inference_mode()
    def _run(self, model: Forward, batch: Batch) -> Rows:
        if self._pages is not None and len(batch.page_copies):
            self._pages.copy(torch.from_numpy(batch.page_copies.astype(np.int64)).to(self._device))
        logits = self._graphs.run(model, batch) if self._graphs is not None else None
        return Rows(self._compute(model, batch) if logits is None else logits)

    def _compute(self, model: Forward, asked: Batch | FixedStep) -> torch.Tensor:
        """Return logits (W, V) float32."""
        step = asked if isinstance(asked, FixedStep) else None
        ops = GpuOps(self._device, self._dtype, self._kernels, self._pages, self._group, step)
        logits: torch.Tensor = model.forward(ops, asked.batch if isinstance(asked, FixedStep) else asked)
        return logits.float()

    def _within_memory(self, work: Callable[[], _Result]) -> _Result:
        """Do something that takes memory for a moment.

        With several ranks it must not be caught: the others wait for this one in the middle of a sum.
        """
        try:
            return work()
        except torch.OutOfMemoryError as error:
            if self._group.size > 1:
                raise
            torch.cuda.empty_cache()  # what others could use lies in pieces of sizes that nobody asks for now
            raise OutOfMemory("a step does not fit on the device", hint="lower --prefill-chunk") from error

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers: (page_bytes,)."""
        return self._open_pages().read_page(page)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        self._open_pages().write_page(page, content)

    def sample(self, logits: Rows, draws: Sequence[Draw]) -> list[Drawn]:
        """Draw one token for each row of logits, which stay on the device. Raises BrokenLogits, OutOfMemory."""
        return self._within_memory(lambda: sample(logits, draws))

    def memory(self) -> Memory:
        """Return the device's memory."""
        if self._device.type != "cuda":
            return Memory(0, 0)
        available, total = torch.cuda.mem_get_info(self._device)
        return Memory(total, available)

    def _open_pages(self) -> Pages:
        assert self._pages is not None, "there are no pages before open_pages"
        return self._pages


def _best_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def _kernels(device: torch.device) -> Kernels:
    if device.type != "cuda":
        return twin
    try:
        from .kernels import fast
    except ImportError as error:
        _log.warning("without Triton the GPU computes slowly: %s", error)
        return twin
    return fast
