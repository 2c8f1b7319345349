"""A model in this process for programs that are asynchronous themselves. It runs in the loop that loaded it.

The blocking `Model` is this one in a thread. Every method asks the runtime as a server would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from camelid.errors import InvalidSetting
from camelid.settings import ModelSettings, SafetySettings, group, read_settings
from camelid.text.detokenize import decode
from camelid.types import (
    MAX_SEED,
    CompletionRequest,
    EmbeddingRequest,
    Event,
    Generation,
    Message,
    ToolChoice,
    ToolSpec,
)

from . import meta_calls, turn
from .asking import Parameters, Said, chat_request, generation_of, new_seed
from .collected import Answer
from .generate_parameters import to_generation
from .generated import Generated, Input, generated, inputs_of, is_conversation, parameters_of
from .many_answers import answer_all, collect_async
from .meta_calls import ChatResult, MetaArguments, TextResult
from .model import LoadedModel
from .runtime import Runtime

Tools = Sequence[ToolSpec | Mapping[str, Any]]


def library_settings(settings: Mapping[str, Any]) -> tuple[ModelSettings, SafetySettings]:
    """Return the settings of a model and of who judges it, as a caller gave them by name, over the environment.

    Raises InvalidSetting.
    """
    known = [*ModelSettings.__dataclass_fields__, *SafetySettings.__dataclass_fields__]
    for name in settings:
        if name not in known:
            raise InvalidSetting(f"there is no model setting {name!r}", hint=f"known are {', '.join(known)}")
    values = read_settings(settings)
    return group(ModelSettings, values), group(SafetySettings, values)


async def load_async(model: str = "cria", *, supervised: bool = False, **settings: Any) -> AsyncModel:
    """Load a model as `load` does, into the loop that is running: `async with await camelid.load_async(…) as model`."""
    return await AsyncModel.load(model, *library_settings(settings), supervised=supervised)


@dataclass(frozen=True)
class AsyncModel:
    """A model, and the runtime that holds it. To be used and closed in the loop that loaded it."""

    runtime: Runtime
    model: LoadedModel

    @classmethod
    async def load(cls, name: str, settings: ModelSettings, safety: SafetySettings, *, supervised: bool) -> Self:
        """Load a model; `supervised` gives its engine a process of its own (see `load`)."""
        runtime = Runtime(settings, safety=safety, in_process=not supervised)
        try:
            return cls(runtime, await runtime.load(name))
        except BaseException:
            await runtime.close()
            raise

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    async def adapted(self, name: str, path: str | None = None) -> AsyncModel:
        """Return this model with a LoRA adapter (see `Model.adapted`)."""
        if path is not None:
            await self.runtime.load_adapter(self.model.base, name, path)
        return replace(self, model=self.model.adapted(name))

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.model.context_length

    @overload
    def chat(
        self,
        messages: Said,
        *,
        tools: Tools = (),
        tool_choice: ToolChoice | None = None,
        stream: Literal[False] = False,
        **parameters: Unpack[Parameters],
    ) -> Awaitable[Answer]: ...

    @overload
    def chat(
        self,
        messages: Said,
        *,
        tools: Tools = (),
        tool_choice: ToolChoice | None = None,
        stream: Literal[True],
        **parameters: Unpack[Parameters],
    ) -> AsyncGenerator[Event, None]: ...

    def chat(
        self,
        messages: Said,
        *,
        tools: Tools = (),
        tool_choice: ToolChoice | None = None,
        stream: bool = False,
        **parameters: Unpack[Parameters],
    ) -> Awaitable[Answer] | AsyncGenerator[Event, None]:
        """Return the assistant's next message; with `stream`, its events (see `Model.chat`)."""
        generation = generation_of(parameters, self.model.sampling)
        events = self.runtime.chat(chat_request(self.name, messages, tools, tool_choice, generation))
        return events if stream else collect_async(events)

    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[False] = False, **parameters: Unpack[Parameters]
    ) -> Awaitable[Answer]: ...

    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[True], **parameters: Unpack[Parameters]
    ) -> AsyncGenerator[Event, None]: ...

    def complete(
        self, prompt: str | Sequence[int], *, stream: bool = False, **parameters: Unpack[Parameters]
    ) -> Awaitable[Answer] | AsyncGenerator[Event, None]:
        """Return how a text, or token ids, may go on: no chat template. Otherwise as `chat`."""
        ids_or_text = prompt if isinstance(prompt, str) else tuple(prompt)
        generation = generation_of(parameters, self.model.sampling)
        events = self.runtime.complete(CompletionRequest(self.name, ids_or_text, generation))
        return events if stream else collect_async(events)

    async def generate(self, inputs: Input | Sequence[Input], **parameters: Any) -> Generated:
        """Continue texts, ids or conversations as Transformers' `generate` does (see `Model.generate`)."""
        given = parameters_of(parameters)
        prompts = await asyncio.to_thread(lambda: [self._prompt(one) for one in inputs_of(inputs)])
        seed = self._seed(given.seed)
        asks = [
            CompletionRequest(
                self.name, prompt, to_generation(given, (seed + index) % (MAX_SEED + 1), self.model.sampling)
            )
            for index, prompt in enumerate(prompts)
        ]
        answers = await self._answer_all(partial(self.runtime.complete, ask) for ask in asks)
        return generated(prompts, answers, given)

    async def text_completion(
        self,
        prompts: Sequence[str],
        temperature: float = 0.6,
        top_p: float = 0.9,
        max_gen_len: int | None = None,
        logprobs: bool = False,
        echo: bool = False,
        *,
        seed: int | None = None,
    ) -> list[TextResult]:
        """Continue texts, as Meta's `Llama.text_completion` does (see `Model.text_completion`)."""
        arguments = MetaArguments(temperature, top_p, max_gen_len, logprobs, self._seed(seed))
        asks = meta_calls.text_requests(self.name, self.model.text.tokenizer, prompts, arguments, echo=echo)
        answers = await self._answer_all(partial(self.runtime.complete, ask) for ask in asks)
        return [meta_calls.text_result(answer, logprobs=logprobs) for answer in answers]

    async def chat_completion(
        self,
        dialogs: Sequence[Sequence[Message | Mapping[str, Any]]],
        temperature: float = 0.6,
        top_p: float = 0.9,
        max_gen_len: int | None = None,
        logprobs: bool = False,
        *,
        seed: int | None = None,
    ) -> list[ChatResult]:
        """Answer dialogs, as Meta's `Llama.chat_completion` does (see `Model.chat_completion`)."""
        arguments = MetaArguments(temperature, top_p, max_gen_len, logprobs, self._seed(seed))
        asks = meta_calls.chat_requests(self.name, dialogs, arguments)
        answers = await self._answer_all(partial(self.runtime.chat, ask) for ask in asks)
        return [meta_calls.chat_result(answer, logprobs=logprobs) for answer in answers]

    async def embed(
        self, texts: str | Sequence[str | Sequence[int]], *, dimensions: int | None = None, may_cut: bool = False
    ) -> list[list[float]]:
        """Return a vector of length 1 for each text, or its ids (see `Model.embed`)."""
        given = (
            (texts,) if isinstance(texts, str) else tuple(one if isinstance(one, str) else tuple(one) for one in texts)
        )
        found = await self.runtime.embed(EmbeddingRequest(self.name, given, dimensions, may_cut))
        return [list(vector) for vector in found.vectors]

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Return the ids of a text. With `parse_special`, control tokens that are spelled out are control tokens."""
        return self.model.text.tokenizer.encode(text, parse_special=parse_special)

    def detokenize(self, ids: Iterable[int]) -> str:
        """Return the text of ids, control tokens left out."""
        return decode(self.model.text.tokenizer, ids)

    async def close(self) -> None:
        """Unload the model. Doing it again does nothing."""
        await self.runtime.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _answer_all(self, requests: Iterable[Callable[[], AsyncGenerator[Event, None]]]) -> Awaitable[list[Answer]]:
        """Answer a batch, with some more requests open than are computed at once, so that the engine waits for none."""
        settings = self.model.description.settings
        return answer_all(requests, settings.max_sequences + min(settings.max_sequences, settings.max_waiting))

    def _prompt(self, given: Input) -> tuple[int, ...]:
        """Return the ids of one input of `generate`."""
        if isinstance(given, str):
            return tuple(self.model.text.tokenizer.encode(given, parse_special=True, with_bos=True))
        if is_conversation(given):
            return tuple(turn.encode_chat(self.model, chat_request(self.name, given, (), None, Generation())))  # type: ignore[arg-type]
        return tuple(given)  # type: ignore[arg-type]

    def _seed(self, seed: int | None) -> int:
        return new_seed(self.model.sampling) if seed is None else seed
