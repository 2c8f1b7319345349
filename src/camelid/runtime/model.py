"""A loaded model: its text side here, its engine behind a port."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from camelid.errors import TemplateError
from camelid.grammar.checker import GrammarChecker
from camelid.models.spec import ModelSpec
from camelid.settings import ModelSettings
from camelid.store.local import ModelFiles
from camelid.text.prompt import Prompt
from camelid.text.templates import ChatTemplate
from camelid.text.tokenizer import Tokenizer
from camelid.types import Message, Sampling, Stopping, Tokens, ToolSpec

from .adapters import AdapterFile, ModelAdapters
from .engine_port import EnginePort
from .sizing import Sizing
from .status import ModelStatus


@dataclass(frozen=True)
class NoTemplate:
    """In place of a chat template that is not there or not usable: says so to who asks for a chat."""

    error: TemplateError
    supports_tools: bool = False

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        **options: Any,
    ) -> Prompt:
        """Raise the error that loading the template ended with."""
        raise TemplateError(self.error.message, field="messages", hint=self.error.hint)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


@dataclass(frozen=True)
class TextSide:
    """What turns messages into ids and back. `sampling` and `stopping` are what the model's makers recommend."""

    tokenizer: Tokenizer
    template: ChatTemplate
    sampling: Sampling
    stopping: Stopping = field(default_factory=Stopping)


@dataclass(frozen=True)
class Description:
    """What is known of a model before its weights are touched."""

    files: ModelFiles
    spec: ModelSpec
    num_parameters: int
    settings: ModelSettings  # as this model runs: with its device, and what its makers say of context and threads
    sizing: Sizing
    stamp: str  # of the files, taken before they were read
    vacant_bytes: int = 0  # free on its device when nothing was loaded there
    adapters: tuple[AdapterFile, ...] = ()  # that requests may choose from the beginning; `sizing` counts them
    draft: tuple[str, ...] = ()  # the weights of a draft model and its adapters; `sizing` counts it


@dataclass(frozen=True)
class LoadedModel:
    """A model that requests can be put to, with one of its adapters or with none."""

    description: Description
    text: TextSide
    engine: EnginePort
    adapters: ModelAdapters
    grammars: GrammarChecker = field(default_factory=GrammarChecker)
    loaded_at: float = field(default_factory=time.time)  # Unix time
    adapter: AdapterFile | None = None

    @property
    def name(self) -> str:
        """What requests call it."""
        return self.base if self.adapter is None else f"{self.base}:{self.adapter.name}"

    @property
    def base(self) -> str:
        """What requests call it without an adapter."""
        return self.description.files.name

    def adapted(self, name: str) -> LoadedModel:
        """Return this model with an adapter. Raises NotFound."""
        return replace(self, adapter=self.adapters.get(name))

    @property
    def memory_bytes(self) -> int:
        """What weights, adapters and cache take when every page is used."""
        counted = sum({file.key: file.size_bytes for file in self.description.adapters}.values())
        return self.description.sizing.memory_bytes - counted + self.adapters.size_bytes

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.description.sizing.context_length

    @property
    def sampling(self) -> Sampling:
        """What the model's makers recommend."""
        return self.text.sampling

    def tokens(self, ids: Sequence[int]) -> Tokens:
        """Return ids with what they stand for."""
        return Tokens(tuple(ids), tuple(map(self.text.tokenizer.token_bytes, ids)), self.context_length)

    async def close(self) -> None:
        """End the engine and free what the text side needs."""
        await self.engine.close()
        self.text.template.close()
        self.grammars.close()

    def status(self) -> ModelStatus:
        """Return what is shown of it."""
        return ModelStatus(
            name=self.name,
            architecture=self.description.spec.architecture,
            num_parameters=self.description.num_parameters,
            context_length=self.context_length,
            memory_bytes=self.memory_bytes,
            backend=self.engine.backend,
            loaded_at=self.loaded_at,
        )

    def adapter_statuses(self) -> list[ModelStatus]:
        """Return what is shown of it with each of its adapters, whose own numbers they are."""
        return [
            replace(
                self.status(),
                name=f"{self.base}:{file.name}",
                memory_bytes=file.size_bytes,
                loaded_at=max(file.loaded_at, self.loaded_at),
                base=self.base,
            )
            for file in self.adapters.files
        ]
