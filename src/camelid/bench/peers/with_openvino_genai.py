"""OpenVINO GenAI, which reads the same GGUF file and makes its own form of it. Latency hint, as its guide advises."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import About, Done, Job, Opening
else:
    from adapter import About, Done


class OpenVino:
    """A pipeline. Tokens are ids both ways, so its tokenizer is not measured."""

    def __init__(self, opening: Opening) -> None:
        import openvino_genai

        self._api: Any = openvino_genai
        properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": opening.threads}
        self._pipeline = openvino_genai.LLMPipeline(opening.model, "CPU", properties)
        self.about = About(
            f"openvino-genai {openvino_genai.__version__}",
            "the GGUF file",
            f"{opening.threads} threads, latency hint, its defaults for the cache and for rounding activations",
        )

    def work(self, job: Job) -> Done | None:
        """Generate; the pipeline's own clock says when the first token was there. A search has no such moment."""
        if job.beams > 1:
            return None
        import numpy as np
        import openvino

        ids = openvino.Tensor(np.array(job.prompts, np.int64))
        mask = openvino.Tensor(np.ones((len(job.prompts), len(job.prompts[0])), np.int64))
        config = self._api.GenerationConfig(max_new_tokens=job.new_tokens, ignore_eos=True, do_sample=False)
        start = time.perf_counter()
        result = self._pipeline.generate(self._api.TokenizedInputs(ids, mask), config)
        total_s = time.perf_counter() - start
        if any(len(tokens) != job.new_tokens for tokens in result.tokens):
            raise RuntimeError("it generated another number of tokens than it was asked for")
        prompt_s = result.perf_metrics.get_ttft().mean / 1e3
        return Done(prompt_s, total_s - prompt_s, len(job.prompts) * (job.new_tokens - 1))


def open_peer(opening: Opening) -> OpenVino:
    """Read the GGUF file and compile it."""
    return OpenVino(opening)
