"""Weights in fewer bits, for doors that know files and no tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from camelid.errors import InvalidRequest
from camelid.models.mixes import find_mix
from camelid.models.quantize import quantize

from .summary import summarize

WHOLE = ("F32", "F16", "BF16")


def requantize(source: Path, target: Path, kind: str, progress: Callable[[int], object] = lambda _: None) -> str:
    """Write the GGUF file `source` to `target` in a quantization, and return the one that it had.

    Raises InvalidRequest, in Ollama's words, for a quantization that is not known and for a source that is quantized
    already; FormatError, ModelError, OSError.
    """
    try:
        mix = find_mix(kind)
    except InvalidRequest as error:
        raise InvalidRequest(f"unsupported quantization type {kind[:40]}", field="quantize", hint=error.hint) from error
    had = str(summarize(source)["quantization"])
    if had not in WHOLE:
        raise InvalidRequest("quantization is only supported for F16, BF16 and F32 models", field="quantize")
    quantize(source, target, mix.name, progress)
    return had
