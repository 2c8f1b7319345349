"""Hugging Face's transformers on PyTorch, in float32, or bfloat16 on a GPU: what most people's first program runs on.

A model of the same shape with random weights: it would unpack a GGUF file to float32 in any case, so the work is the
same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import About, Done, Job, Opening
else:
    from adapter import About, Done


class Transformers:
    """A causal model and its own cache. A plain loop in place of `generate`, which would only add to it."""

    def __init__(self, opening: Opening) -> None:
        import torch
        import transformers

        torch.set_num_threads(opening.threads)
        torch.manual_seed(0)
        models: Any = transformers.AutoModelForCausalLM
        self._device, dtype = ("cuda", torch.bfloat16) if opening.device == "gpu" else ("cpu", torch.float32)
        with torch.device(self._device):
            self._model = models.from_config(_config(opening), dtype=dtype).eval()
        self.about = About(
            f"transformers {transformers.__version__}, torch {torch.__version__}",
            f"the same shape, random, {str(dtype).removeprefix('torch.')}",
            f"{opening.threads} threads" if self._device == "cpu" else torch.cuda.get_device_name(),
        )

    def work(self, job: Job) -> Done | None:
        """Run the prompts, then one token a stream and step. A search is `generate`'s own, timed with the prompt and
        without, one after the other.
        """
        import torch
        from transformers import DynamicCache

        if job.beams > 1:
            prompt_s, whole_s = self._search(job, 1), self._search(job, job.new_tokens)
            return Done(prompt_s, whole_s - prompt_s, job.beams * (job.new_tokens - 1))
        cache: Any = DynamicCache(config=self._model.config)
        start = time.perf_counter()
        with torch.inference_mode():
            ids = self._step(torch.tensor(job.prompts, device=self._device), cache)
            first = self._now_s()
            for _ in range(job.new_tokens - 1):
                ids = self._step(ids, cache)
            last = self._now_s()
        return Done(first - start, last - first, len(job.prompts) * (job.new_tokens - 1))

    def _search(self, job: Job, new_tokens: int) -> float:
        import torch

        prompt = torch.tensor(job.prompts, device=self._device)
        start = time.perf_counter()
        self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            num_beams=job.beams,
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            pad_token_id=0,
        )
        return self._now_s() - start

    def _now_s(self) -> float:
        """Return the time when all that was asked for is done: a GPU is told and not waited for."""
        import torch

        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _step(self, ids: Any, cache: Any) -> Any:
        logits = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].argmax(-1, keepdim=True)


def _config(opening: Opening) -> Any:
    from transformers import LlamaConfig

    shape = opening.shape
    return LlamaConfig(
        hidden_size=shape["dim"],
        num_hidden_layers=shape["num_layers"],
        num_attention_heads=shape["num_heads"],
        num_key_value_heads=shape["num_kv_heads"],
        head_dim=shape["head_dim"],
        intermediate_size=shape["ffn_dim"],
        vocab_size=shape["vocab_size"],
        tie_word_embeddings=shape["is_tied"],
        max_position_embeddings=131_072,
    )


def open_peer(opening: Opening) -> Transformers:
    """Make a model of the same shape."""
    return Transformers(opening)
