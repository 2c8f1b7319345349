"""The Triton kernels under the names of `twin.py`."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # what Triton does by itself, with a warning if it is not said

from .attend import attend
from .multiply import multiply

__all__ = ["attend", "multiply"]
