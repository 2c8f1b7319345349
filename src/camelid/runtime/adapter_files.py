"""Adapters on their way into a store, which keeps GGUF files only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from camelid.errors import NotFound
from camelid.formats import open_checkpoint
from camelid.models.load import read_spec
from camelid.models.lora import open_lora
from camelid.models.lora_gguf import write_gguf_adapter


@contextmanager
def gguf_adapters(paths: Sequence[Path], base: Path, folder: Path) -> Iterator[tuple[Path, ...]]:
    """Yield a GGUF file for each adapter of the model `base`, made in `folder` where it is in PEFT's form, and deleted.

    Raises NotFound, FormatError, ModelError for what is no adapter of this model.
    """
    with open_checkpoint(base) as checkpoint:
        spec = read_spec(checkpoint)
    made: list[Path] = []
    try:
        found: list[Path] = []
        for number, path in enumerate(paths):
            if not path.exists():
                raise NotFound(f"ADAPTER names {str(path)!r}, which is not there", hint="give a LoRA adapter")
            with open_lora(path) as adapter:
                adapter.check(spec, str(base))
                if path.is_file() and path.suffix != ".safetensors":
                    found.append(path.resolve())
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                made.append(folder / f"{os.getpid()}-adapter-{number}.gguf")
                write_gguf_adapter(adapter, spec, made[-1])
                found.append(made[-1].resolve())
        yield tuple(found)
    finally:
        for path in made:
            path.unlink(missing_ok=True)
