"""The few lines that an operator sees when the server is up."""

from __future__ import annotations

from collections.abc import Sequence

from camelid.runtime.status import ModelStatus
from camelid.settings import ServerSettings

_EXAMPLE = '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'


def banner(version: str, url: str, settings: ServerSettings, models: Sequence[ModelStatus]) -> str:
    """Return the lines: address, key, models with context and memory, a command to copy, how to stop."""
    return "\n".join(
        [
            f"Camelid {version} listens on {url}",
            f"  key    {_key(settings)}",
            *(f"  model  {_model(model)}" for model in models),
            f"  try    {_curl(url, bool(settings.api_key))}",
            "  stop   Ctrl-C",
        ]
    )


def _key(settings: ServerSettings) -> str:
    if settings.api_key:
        number = len(settings.api_key)
        return f"Authorization: Bearer KEY ({number} {'key is' if number == 1 else 'keys are'} known)"
    if settings.insecure_no_key:
        return "none: everyone who reaches this port can use it"
    return "none needed on this machine"


def _model(model: ModelStatus) -> str:
    return (
        f"{model.name}: {model.architecture}, {_count(model.num_parameters)} parameters, "
        f"{model.context_length:,} tokens of context, {model.memory_bytes / 2**20:,.0f} MiB, {model.backend}"
    )


def _curl(url: str, has_key: bool) -> str:
    key = ' -H "authorization: Bearer $CAMELID_API_KEY"' if has_key else ""
    return f"curl {url}/v1/chat/completions -H 'content-type: application/json'{key} -d '{_EXAMPLE}'"


def _count(number: int) -> str:
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= unit:
            return f"{number / unit:.3g} {letter}"
    return str(number)
