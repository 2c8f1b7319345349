"""What a model's makers put beside its weights: the chat template, and how they recommend to run and to sample it.

GGUF keeps both among its metadata, Hugging Face folders in small JSON files. What is there is taken only as far as it
makes sense; a model is not refused for a recommendation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from camelid.errors import FormatError, InvalidRequest
from camelid.formats import Checkpoint
from camelid.formats.json_file import load_json
from camelid.models.load import naming_of
from camelid.models.names import Naming
from camelid.settings import ModelSettings
from camelid.types import MAX_SEED, Sampling, Stopping

# Meta's own for its chat models: generation.py of Llama 3, generation_config.json of 3.1 to 3.3.
LLAMA_SAMPLING = Sampling(temperature=0.6, top_p=0.9)

MAX_TEMPLATE_BYTES = 2**20  # what is too long for a template is refused further on, with a better message

# llama.cpp's keys under `general.sampling.`, and Transformers' in generation_config.json
_GGUF_NAMES = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
_OLLAMA_NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_last_n": "penalty_window",
    "seed": "seed",
}
_COUNTS = ("top_k", "penalty_window", "seed")
_HUGGING_FACE_NAMES = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")

_log = logging.getLogger(__name__)


def chat_template(checkpoint: Checkpoint) -> str | None:
    """Return the Jinja text of the model's chat template, None if it brings none."""
    if naming_of(checkpoint) is Naming.GGUF:
        source = checkpoint.metadata.get("tokenizer.chat_template")
        return source if isinstance(source, str) else None
    folder = _folder(checkpoint)
    file = folder / "chat_template.jinja"
    if file.is_file() and file.stat().st_size <= MAX_TEMPLATE_BYTES:
        return file.read_text(encoding="utf-8", errors="replace")
    return _named_template(_small_json(folder / "tokenizer_config.json").get("chat_template"))


def recommended_sampling(checkpoint: Checkpoint) -> Sampling:
    """Return the sampling that the model's makers recommend, and Meta's for its own models where they say nothing."""
    if naming_of(checkpoint) is Naming.GGUF:
        prefix = "general.sampling."
        given = {ours: checkpoint.metadata.get(prefix + theirs) for theirs, ours in _GGUF_NAMES.items()}
    else:
        config = _small_json(_folder(checkpoint) / "generation_config.json")
        given = {name: config.get(name) for name in _HUGGING_FACE_NAMES}
        if config.get("do_sample") is False:
            given = {"temperature": 0.0}
    numbers: dict[str, Any] = {
        name: _number(name, value) for name, value in given.items() if isinstance(value, (int, float))
    }
    try:
        return Sampling(**numbers) if numbers else LLAMA_SAMPLING
    except InvalidRequest as error:
        _log.warning("%s recommends sampling that cannot be: %s", checkpoint.path, error)
        return LLAMA_SAMPLING


def with_parameters(sampling: Sampling, parameters: Mapping[str, object]) -> Sampling:
    """Return `sampling` with what a model of a store says of it in Ollama's parameters; nonsense is passed over."""
    given = {ours: parameters.get(theirs) for theirs, ours in _OLLAMA_NAMES.items()}
    numbers: dict[str, Any] = {
        name: _number(name, value)
        for name, value in given.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    if numbers.get("penalty_window", 0) < 0:
        numbers["penalty_window"] = None
    if "seed" in numbers:
        numbers["seed"] = 0 if numbers["seed"] == -1 else numbers["seed"] % (MAX_SEED + 1)  # -1: a new one each time
    try:
        return replace(sampling, **numbers)
    except InvalidRequest as error:
        _log.warning("the model's parameters are passed over: %s", error)
        return sampling


def recommended_stopping(parameters: Mapping[str, object]) -> Stopping:
    """Return when the answers of a model of a store end, by Ollama's parameters `stop` and `num_predict`."""
    given, most = parameters.get("stop"), parameters.get("num_predict")
    stops = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    texts = tuple(dict.fromkeys(stop for stop in stops if isinstance(stop, str) and stop))
    try:
        return Stopping(max_tokens=most if isinstance(most, int) and most > 0 else None, stop=texts)
    except InvalidRequest as error:
        _log.warning("the model's stop strings are passed over: %s", error)
        return Stopping()


def with_placement(settings: ModelSettings, parameters: Mapping[str, object], trained_context: int) -> ModelSettings:
    """Return the settings with what a model of a store says of context and threads; what an operator set stays.

    A context longer than the model was trained for is cut to that. `num_gpu` 0 means: on the processor.
    """
    context, threads = _count(parameters, "num_ctx"), _count(parameters, "num_thread")
    if settings.context_length is None and context is not None:
        settings = replace(settings, context_length=min(context, trained_context))
    if settings.threads is None and threads is not None:
        settings = replace(settings, threads=threads)
    if settings.device == "auto" and parameters.get("num_gpu") == 0:
        settings = replace(settings, device="cpu")
    return settings


def _count(parameters: Mapping[str, object], name: str) -> int | None:
    value = parameters.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _number(name: str, value: float) -> float:
    """Return a count as such, and a 32-bit 0.6 (0.6000000238…) as the 0.6 that was meant."""
    return int(value) if name in _COUNTS and math.isfinite(value) else round(value, 6)


def _named_template(given: object) -> str | None:
    """Return the template out of tokenizer_config.json: a text, or a list of named ones of which `default` counts."""
    if isinstance(given, list):
        named = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, Mapping)}
        given = named.get("default")
    return given if isinstance(given, str) else None


def _folder(checkpoint: Checkpoint) -> Path:
    return checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent


def _small_json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        return load_json(file)
    except FormatError as error:
        _log.warning("%s is left out: %s", file, error)
        return {}
