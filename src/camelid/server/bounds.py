"""The bounds of the numbers that requests of every dialect have, as JSON schema says them.

They are those that `types.py` checks; here they are told to who reads the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from camelid.rules import MAX_BEAMS, MAX_NGRAM
from camelid.types import MAX_CHOICES, MAX_SEED, MAX_STOP_STRINGS, MAX_TOP_LOGPROBS

_MOST = 2**31 - 1
BOUNDS: Mapping[str, Mapping[str, Any]] = {
    "temperature": {"minimum": 0, "maximum": 100},
    "top_k": {"minimum": -1, "maximum": _MOST},
    "top_p": {"minimum": 0, "maximum": 1},
    "min_p": {"minimum": 0, "maximum": 1},
    "typical_p": {"minimum": 0, "maximum": 1},
    "repetition_penalty": {"minimum": 0.01, "maximum": 100},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "seed": {"minimum": -(2**63), "maximum": MAX_SEED},
    "n": {"minimum": 1, "maximum": MAX_CHOICES},
    "best_of": {"minimum": 1, "maximum": MAX_CHOICES},
    "max_tokens": {"minimum": 0, "maximum": _MOST},
    "max_completion_tokens": {"minimum": 1, "maximum": _MOST},
    "max_output_tokens": {"minimum": 1, "maximum": _MOST},
    "max_tool_calls": {"minimum": 1},
    "min_tokens": {"minimum": 0, "maximum": _MOST},
    "top_logprobs": {"minimum": 0, "maximum": MAX_TOP_LOGPROBS},
    "logprobs": {"minimum": 0, "maximum": MAX_TOP_LOGPROBS},
    "stop": {"maxItems": MAX_STOP_STRINGS},
    "messages": {"minItems": 1},
    "num_beams": {"minimum": 1, "maximum": MAX_BEAMS},
    "length_penalty": {"minimum": -100, "maximum": 100},
    "guidance_scale": {"minimum": -100, "maximum": 100},
    "encoder_repetition_penalty": {"minimum": 0.01, "maximum": 100},
    "no_repeat_ngram_size": {"minimum": 0, "maximum": MAX_NGRAM},
    "encoder_no_repeat_ngram_size": {"minimum": 0, "maximum": MAX_NGRAM},
}
