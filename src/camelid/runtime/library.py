"""Camelid as a library: a model in this process, behind plain calls that block.

The runtime itself is asynchronous; here it runs in a thread of its own, so these calls work the same in a script, in
several threads and in a notebook.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack, overload

from camelid.errors import InvalidRequest, InvalidSetting
from camelid.settings import ModelSettings, group, read_settings
from camelid.text.detokenize import decode
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Event,
    Generation,
    Grammar,
    Message,
    Sampling,
    Stopping,
    ToolChoice,
    ToolSpec,
)

from .collected import Answer, collect
from .loop_thread import LoopThread
from .plain_values import to_message, to_tool
from .runtime import Runtime


class Parameters(TypedDict, total=False):
    """What may be asked of an answer, by name; see `Sampling`, `Stopping` and `Generation` for what each does.

    What is left out is as the model's makers recommend. Without a seed each answer is drawn with a new one. `format` is
    "json", a JSON schema or a `Grammar`: what the answer must be.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    penalty_window: int | None
    logit_bias: Mapping[int, float]
    seed: int
    max_tokens: int | None
    min_tokens: int
    stop: str | Sequence[str]
    ignore_eos: bool
    num_choices: int
    top_logprobs: int | None
    format: str | Mapping[str, Any] | Grammar | None


def load(model: str = "cria", **settings: Any) -> Model:
    """Load a model into this process: `cria`, a GGUF file, or a folder with safetensors.

    settings: any of `ModelSettings`, such as `context_length` or `threads`; what is left out comes from the environment
    and the settings file. Raises NotFound, FormatError, ModelError, OutOfMemory, InvalidSetting.
    """
    known = ModelSettings.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise InvalidSetting(f"there is no model setting {name!r}", hint=f"known are {', '.join(known)}")
    return Model(model, group(ModelSettings, read_settings(settings)))


class Model:
    """A model in this process. Close it, or use it in a `with` statement, to free its memory. Any thread may use it."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        """Load the model (see `load`)."""
        self._loop = LoopThread()
        try:
            self._runtime = Runtime(settings, in_process=True)
            self._model = self._loop.run(self._runtime.load(name))
        except BaseException:
            self._loop.close()
            raise

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._model.context_length

    @overload
    def chat(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[ToolSpec | Mapping[str, Any]] = (),
        tool_choice: ToolChoice | None = None,
        stream: Literal[False] = False,
        **parameters: Unpack[Parameters],
    ) -> Answer: ...

    @overload
    def chat(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[ToolSpec | Mapping[str, Any]] = (),
        tool_choice: ToolChoice | None = None,
        stream: Literal[True],
        **parameters: Unpack[Parameters],
    ) -> Iterator[Event]: ...

    def chat(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[ToolSpec | Mapping[str, Any]] = (),
        tool_choice: ToolChoice | None = None,
        stream: bool = False,
        **parameters: Unpack[Parameters],
    ) -> Answer | Iterator[Event]:
        """Return the assistant's next message; with `stream`, yield its events while it is made.

        messages: a question, or a conversation of Messages or of mappings as OpenAI's API has them; tools likewise.
        tool_choice: whether a call is required, and of which tools; without it the model chooses.
        Closing the iterator ends the answer. Raises InvalidRequest, ContextOverflow, TemplateError, Overloaded.
        """
        conversation = [Message("user", messages)] if isinstance(messages, str) else map(to_message, messages)
        generation, choice = self._generation(parameters), tool_choice or ToolChoice()
        request = ChatRequest(
            self.name, tuple(conversation), tuple(map(to_tool, tools)), generation, tool_choice=choice
        )
        events = self._loop.iterate(self._runtime.chat(request))
        return events if stream else collect(events)

    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[False] = False, **parameters: Unpack[Parameters]
    ) -> Answer: ...

    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[True], **parameters: Unpack[Parameters]
    ) -> Iterator[Event]: ...

    def complete(
        self, prompt: str | Sequence[int], *, stream: bool = False, **parameters: Unpack[Parameters]
    ) -> Answer | Iterator[Event]:
        """Return how a text, or token ids, may go on: no chat template. Otherwise as `chat`."""
        ids_or_text = prompt if isinstance(prompt, str) else tuple(prompt)
        request = CompletionRequest(self.name, ids_or_text, self._generation(parameters))
        events = self._loop.iterate(self._runtime.complete(request))
        return events if stream else collect(events)

    def embed(
        self, texts: str | Sequence[str | Sequence[int]], *, dimensions: int | None = None, may_cut: bool = False
    ) -> list[list[float]]:
        """Return a vector of length 1 for each text (or its ids): what is alike points the same way.

        dimensions: the first so many only. may_cut: cut a text that is too long. Raises InvalidRequest,
        ContextOverflow.
        """
        given = (
            (texts,) if isinstance(texts, str) else tuple(one if isinstance(one, str) else tuple(one) for one in texts)
        )
        request = EmbeddingRequest(self.name, given, dimensions, may_cut)
        return [list(vector) for vector in self._loop.run(self._runtime.embed(request)).vectors]

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Return the ids of a text. With `parse_special`, control tokens that are spelled out are control tokens."""
        return self._model.text.tokenizer.encode(text, parse_special=parse_special)

    def detokenize(self, ids: Iterable[int]) -> str:
        """Return the text of ids, control tokens left out."""
        return decode(self._model.text.tokenizer, ids)

    def close(self) -> None:
        """Unload the model. Doing it again does nothing."""
        if self._loop.is_open:
            self._loop.run(self._runtime.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _generation(self, parameters: Mapping[str, Any]) -> Generation:
        given = dict(parameters)
        given["stop"] = (given["stop"],) if isinstance(given.get("stop"), str) else tuple(given.get("stop", ()))
        given.setdefault("seed", self._model.sampling.seed or secrets.randbits(63))
        given["grammar"] = _grammar(given.pop("format", None))
        sampling, stopping, rest = (
            {name: given.pop(name) for name in list(given) if name in kind.__dataclass_fields__}
            for kind in (Sampling, Stopping, Generation)
        )
        for name in given:
            raise InvalidRequest(f"there is no parameter {name!r}", field=name)
        return Generation(replace(self._model.sampling, **sampling), Stopping(**stopping), **rest)


def _grammar(given: str | Mapping[str, Any] | Grammar | None) -> Grammar | None:
    if isinstance(given, str):
        if given != "json":
            raise InvalidRequest(
                f"format must be 'json', a JSON schema or a Grammar, got {given[:40]!r}", field="format"
            )
        return Grammar.json_object("format")
    return given if given is None or isinstance(given, Grammar) else Grammar.schema(dict(given), "format")
