"""The gpu backend: the contract of `base.py` on PyTorch, for CUDA devices.

On `torch.device("cpu")` it computes the same way with the kernels' plain twins: that is how it is tested where there is
no GPU, not a way to run models (the cpu backend is). It does not promise the same bits whatever the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from camelid.errors import OutOfMemory, UnsupportedFormat

from ..base import AttentionSpec, Batch, CacheType, Draw, Drawn, Forward, Memory, Tensor
from .kernels import twin
from .ops import GpuOps, Kernels
from .pages import Pages
from .parallel import ALONE, Group
from .sizes import page_bytes
from .weights import Pair, Placed, place

_log = logging.getLogger(__name__)


class GpuBackend:
    """Computes on `device`, products in `dtype` (default: bfloat16 where the device has it, else float16)."""

    def __init__(
        self,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        kernels: Kernels | None = None,
        group: Group = ALONE,
    ) -> None:
        """Be ready to take weights in. `group`: the ranks that compute the model, this one among them."""
        self._device = device or torch.device("cuda")
        self._dtype = dtype or _best_dtype(self._device)
        self._kernels = kernels or _kernels(self._device)
        self._pages: Pages | None = None
        self._group = group

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
            return place(tensor, self._device, self._dtype)
        except torch.cuda.OutOfMemoryError as error:
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
        except torch.cuda.OutOfMemoryError as error:
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
        self._pages = None  # the old ones go first
        try:
            self._pages = Pages(attention, cache_type, num_pages, self._device)
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(
                f"a cache of {num_pages} pages needs {num_pages * self.page_bytes(attention, cache_type) >> 20} MiB",
                hint="ask for a shorter context (--context-length), or for fewer sequences at a time",
            ) from error

    @torch.inference_mode()
    def run(self, model: Forward, batch: Batch) -> NDArray[np.float32]:
        """Copy the pages that `batch` names, run the forward pass, return the logits (W, V)."""
        if self._pages is not None and len(batch.page_copies):
            self._pages.copy(torch.from_numpy(batch.page_copies.astype(np.int64)).to(self._device))
        logits = model.forward(GpuOps(self._device, self._dtype, self._kernels, self._pages, self._group), batch)
        found: NDArray[np.float32] = logits.float().cpu().numpy()
        return found

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers: (page_bytes,)."""
        return self._open_pages().read_page(page)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        self._open_pages().write_page(page, content)

    def sample(self, logits: NDArray[np.float32], draws: Sequence[Draw]) -> list[Drawn]:
        """Draw one token for each row of logits."""
        from ..sampling import sample

        return sample(logits, draws)

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
