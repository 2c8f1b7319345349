"""Camelid: pull, run, serve and deploy Llama-class language models, with an engine of its own.

    import camelid

    with camelid.load("cria") as model:
        print(model.chat("What is 17 + 25?").text)

The public names are those in `__all__`. Each is imported when it is first used, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camelid.errors import CamelidError
    from camelid.rules import Beams, Rules
    from camelid.runtime.async_library import AsyncModel, load_async
    from camelid.runtime.collected import Answer
    from camelid.runtime.generated import Generated
    from camelid.runtime.library import Model, load
    from camelid.runtime.runtime import Runtime
    from camelid.settings import ModelSettings
    from camelid.types import (
        ChatRequest,
        CompletionRequest,
        FinishReason,
        Generation,
        Grammar,
        GrammarKind,
        Message,
        Sampling,
        Stopping,
        ToolCall,
        ToolChoice,
        ToolSpec,
        Usage,
    )

    __version__: str

__all__ = [
    "Answer",
    "AsyncModel",
    "Beams",
    "CamelidError",
    "ChatRequest",
    "CompletionRequest",
    "FinishReason",
    "Generated",
    "Generation",
    "Grammar",
    "GrammarKind",
    "Message",
    "Model",
    "ModelSettings",
    "Rules",
    "Runtime",
    "Sampling",
    "Stopping",
    "ToolCall",
    "ToolChoice",
    "ToolSpec",
    "Usage",
    "__version__",
    "load",
    "load_async",
]

_HOMES = {
    "Beams": "camelid.rules",
    "Rules": "camelid.rules",
    "CamelidError": "camelid.errors",
    "Answer": "camelid.runtime.collected",
    "Model": "camelid.runtime.library",
    "load": "camelid.runtime.library",
    "Runtime": "camelid.runtime.runtime",
    "AsyncModel": "camelid.runtime.async_library",
    "Generated": "camelid.runtime.generated",
    "load_async": "camelid.runtime.async_library",
    "ModelSettings": "camelid.settings",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name == "__version__":
        value: Any = _version()
    elif name in __all__:
        value = getattr(import_module(_HOMES.get(name, "camelid.types")), name)
    else:
        raise AttributeError(f"module 'camelid' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("camelid")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+source"
