"""Values of the parameters that OpenAI's and Ollama's routes have from Transformers."""

from __future__ import annotations

from typing import Any

SAMPLES: dict[str, Any] = {
    "early_stopping": [True, False, "never"],
    "do_sample": [True, False],
    "num_beams": [2, 17],
    "length_penalty": [0.5],
    "top_h": [0.5],
    "epsilon_cutoff": [0.5],
    "eta_cutoff": [0.5],
    "guidance_scale": [1.5],
    "negative_prompt": ["x"],
    "negative_prompt_ids": [[5]],
    "sequence_bias": [[[[5, 6], -2.0]]],
    "encoder_repetition_penalty": [1.5],
    "no_repeat_ngram_size": [3],
    "encoder_no_repeat_ngram_size": [3],
    "bad_words_ids": [[[5, 6]]],
    "forced_bos_token_id": [5],
    "forced_eos_token_id": [5, [5, 6]],
    "remove_invalid_values": [True],
    "exponential_decay_length_penalty": [[3, 1.5]],
    "suppress_tokens": [[5]],
    "begin_suppress_tokens": [[5]],
    "renormalize_logits": [True],
}
COMPANY: dict[str, Any] = {
    **{name: {"num_beams": 4} for name in ("do_sample", "early_stopping", "length_penalty")},
    **{name: {"guidance_scale": 1.5} for name in ("negative_prompt", "negative_prompt_ids")},
}
SILENT = dict.fromkeys(("early_stopping", "do_sample"), "the default")
