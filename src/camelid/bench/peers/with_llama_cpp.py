"""llama.cpp through llama-cpp-python's ctypes functions: no Python between the tokens but the choice of the likeliest.

Its defaults are kept, which repack the weights for the processor at load time; a native build is the builder's business
(`CMAKE_ARGS=-DGGML_NATIVE=ON`), and what was built is stated.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import About, Done, Job, Opening
else:
    from adapter import About, Done

BATCH_TOKENS = 2048  # its default: the most tokens that one call takes


class LlamaCpp:
    """A model, and a context for each number of streams that was asked for."""

    def __init__(self, opening: Opening) -> None:
        import llama_cpp

        self._api: Any = llama_cpp
        self._opening = opening
        self._quiet = self._api.llama_log_callback(lambda level, text, data: None)
        self._api.llama_log_set(self._quiet, None)
        self._api.llama_backend_init()
        self._model = self._api.llama_model_load_from_file(
            opening.model.encode(), self._api.llama_model_default_params()
        )
        if not self._model:
            raise ValueError("llama.cpp cannot load this file")
        self._contexts: dict[int, Any] = {}
        built = self._api.llama_print_system_info().decode()
        features = [part.split("=")[0].strip().split()[-1] for part in built.split("|") if part.strip().endswith("= 1")]
        self.about = About(
            f"llama-cpp-python {llama_cpp.__version__}",
            "the GGUF file",
            f"{opening.threads} threads, built with {' '.join(features) or 'no features told'}",
        )

    def work(self, job: Job) -> Done | None:
        """Compute the prompts in calls of `BATCH_TOKENS`, then decode all streams in one call a step."""
        if job.beams > 1:
            return None  # it took beam search out
        streams = len(job.prompts)
        context = self._context(streams)
        self._api.llama_memory_clear(self._api.llama_get_memory(context), True)
        batch = self._api.llama_batch_init(BATCH_TOKENS, 0, streams)
        start = time.perf_counter()
        ids = self._prompts(context, batch, job.prompts)
        first = time.perf_counter()
        length = len(job.prompts[0])
        for step in range(job.new_tokens - 1):
            self._fill(batch, [(stream, length + step, ids[stream], True) for stream in range(streams)])
            self._decode(context, batch)
            ids = [self._likeliest(context, row) for row in range(streams)]
        done = time.perf_counter()
        self._api.llama_batch_free(batch)
        return Done(first - start, done - first, streams * (job.new_tokens - 1))

    def _prompts(self, context: Any, batch: Any, prompts: list[list[int]]) -> list[int]:
        """Compute all prompts and return each one's next id."""
        rows = [
            (stream, position, token, position == len(prompt) - 1)
            for stream, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        ids: list[int] = []
        for start in range(0, len(rows), BATCH_TOKENS):
            part = rows[start : start + BATCH_TOKENS]
            self._fill(batch, part)
            self._decode(context, batch)
            ids += [self._likeliest(context, row) for row, entry in enumerate(part) if entry[3]]
        return ids

    def _fill(self, batch: Any, rows: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for row, (stream, position, token, wants_logits) in enumerate(rows):
            batch.token[row], batch.pos[row] = token, position
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, stream
            batch.logits[row] = wants_logits

    def _decode(self, context: Any, batch: Any) -> None:
        code = self._api.llama_decode(context, batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")

    def _likeliest(self, context: Any, row: int) -> int:
        import numpy as np

        address = self._api.llama_get_logits_ith(context, row)
        size = self._opening.shape["vocab_size"]
        array = ctypes.cast(address, ctypes.POINTER(ctypes.c_float * size)).contents
        return int(np.frombuffer(array, np.float32).argmax())

    def _context(self, streams: int) -> Any:
        if streams not in self._contexts:
            params = self._api.llama_context_default_params()
            params.n_ctx = streams * (-(-self._opening.context // 256) * 256)
            params.n_seq_max = streams
            params.n_batch = BATCH_TOKENS
            params.n_threads = params.n_threads_batch = self._opening.threads
            self._contexts[streams] = self._api.llama_init_from_model(self._model, params)
            if not self._contexts[streams]:
                raise MemoryError("llama.cpp cannot make a context")
        return self._contexts[streams]


def open_peer(opening: Opening) -> LlamaCpp:
    """Load the GGUF file."""
    return LlamaCpp(opening)
