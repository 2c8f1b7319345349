"""CTranslate2 with int8 weights, one scale a row: a coarser and larger form than a GGUF file's.

It reads no GGUF, so a model of the same shape with random weights is written once and kept. That is the same work, not
the same answers.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import About, Done, Job, Opening
else:
    from adapter import About, Done


class CTranslate2:
    """A generator over a model of the same shape."""

    def __init__(self, opening: Opening) -> None:
        import ctranslate2

        folder = written(opening.shape, Path(opening.folder))
        self._generator = ctranslate2.Generator(
            str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=opening.threads
        )
        self.about = About(
            f"ctranslate2 {ctranslate2.__version__}",
            "the same shape, random, int8 with a scale per row",
            f"{opening.threads} threads, compute type {self._generator.compute_type}",
        )

    def work(self, job: Job) -> Done | None:
        """Generate greedily; a callback notes when each step is done. A search has none: it is timed with the prompt
        and without, one after the other.
        """
        if job.beams > 1:
            prompt_s, whole_s = self._search(job, 1), self._search(job, job.new_tokens)
            return Done(prompt_s, whole_s - prompt_s, job.beams * (job.new_tokens - 1))
        seen: list[float] = []

        def note(step: Any) -> bool:
            seen.append(time.perf_counter())
            return False

        prompts = [[f"t{token}" for token in prompt] for prompt in job.prompts]
        start = time.perf_counter()
        self._generator.generate_batch(
            prompts,
            min_length=job.new_tokens,  # no end token before
            max_length=job.new_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=note,
        )
        streams = len(prompts)
        if len(seen) != streams * job.new_tokens:
            raise RuntimeError(f"it generated {len(seen)} tokens, asked were {streams * job.new_tokens}")
        first = seen[streams - 1]
        return Done(first - start, seen[-1] - first, streams * (job.new_tokens - 1))

    def _search(self, job: Job, new_tokens: int) -> float:
        prompts = [[f"t{token}" for token in prompt] for prompt in job.prompts]
        start = time.perf_counter()
        found = self._generator.generate_batch(
            prompts,
            min_length=new_tokens,
            max_length=new_tokens,
            beam_size=job.beams,
            include_prompt_in_result=False,
        )
        taken = time.perf_counter() - start
        if len(found[0].sequences[0]) != new_tokens:
            raise RuntimeError(f"it found {len(found[0].sequences[0])} tokens, asked were {new_tokens}")
        return taken


def written(shape: dict[str, Any], folder: Path) -> Path:
    """Write a model of this shape, unless it was before. Returns its folder."""
    name = "-".join(str(shape[key]) for key in sorted(shape))
    target = folder / f"ctranslate2-int8-{name}"
    if not (target / "model.bin").exists():
        target.mkdir(parents=True, exist_ok=True)
        spec = _spec(shape)
        spec.register_vocabulary([f"t{token}" for token in range(shape["vocab_size"])])
        spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "t0", "t1", "t2"
        spec.config.layer_norm_epsilon = 1e-5
        spec.validate()
        spec.optimize(quantization="int8")
        spec.save(str(target))
    return target


def _spec(shape: dict[str, Any]) -> Any:
    from ctranslate2.specs import common_spec, transformer_spec

    spec: Any = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape["num_layers"],
        shape["num_heads"],
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=500_000.0,
        num_heads_kv=shape["num_kv_heads"],
        head_dim=shape["head_dim"],
    )
    _fill(spec.decoder, shape)
    return spec


def _fill(decoder: Any, shape: dict[str, Any]) -> None:
    import numpy as np

    pool = np.random.default_rng(0).standard_normal(1 << 22, np.float32)

    def matrix(rows: int, columns: int) -> Any:
        return np.resize(pool, rows * columns).reshape(rows, columns) * np.float32(columns**-0.5)

    dim, ffn = shape["dim"], shape["ffn_dim"]
    queries, keys = shape["num_heads"] * shape["head_dim"], shape["num_kv_heads"] * shape["head_dim"]
    decoder.scale_embeddings = False
    decoder.embeddings.weight = matrix(shape["vocab_size"], dim)
    decoder.projection.weight = matrix(shape["vocab_size"], dim)
    decoder.layer_norm.gamma = np.ones(dim, np.float32)
    for layer in decoder.layer:
        layer.self_attention.layer_norm.gamma = layer.ffn.layer_norm.gamma = np.ones(dim, np.float32)
        layer.self_attention.linear[0].weight = matrix(queries + 2 * keys, dim)
        layer.self_attention.linear[1].weight = matrix(dim, queries)
        layer.ffn.linear_0.weight = matrix(ffn, dim)
        layer.ffn.linear_0_noact.weight = matrix(ffn, dim)
        layer.ffn.linear_1.weight = matrix(dim, ffn)


def open_peer(opening: Opening) -> CTranslate2:
    """Open a model of the same shape."""
    return CTranslate2(opening)
