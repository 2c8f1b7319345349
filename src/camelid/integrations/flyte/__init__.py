"""Llama beside a Flyte task: `from camelid.integrations.flyte import Model, Ollama`, with the names, arguments and
defaults of Flyte's own plugin. Nothing of Flyte is imported until a pod template is asked for.
"""

from .ollama import Model, Ollama
from .template import ModelInferenceTemplate

__all__ = ["Model", "ModelInferenceTemplate", "Ollama"]
