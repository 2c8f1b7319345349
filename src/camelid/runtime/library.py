"""Camelid as a library: a model in this process, behind plain calls that block.

The runtime itself is asynchronous; here it runs in a thread of its own, so these calls work the same in a script, in
several threads and in a notebook, whose cells run inside a loop already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from camelid.settings import ModelSettings, SafetySettings
from camelid.types import Event, Message, ToolChoice

from .asking import Parameters, Said
from .async_library import AsyncModel, Tools, library_settings
from .collected import Answer
from .generated import Generated, Input
from .loop_thread import LoopThread
from .meta_calls import ChatResult, TextResult

NO_SAFETY = SafetySettings()


def load(model: str = "cria", *, supervised: bool = False, **settings: Any) -> Model:
    """Load a model into this process: `cria`, a name of the store, a GGUF file, or a folder of safetensors or Meta's.

    supervised: give the engine a process of its own, which is replaced when it dies, and open answers go on. settings:
    any of `ModelSettings`, such as `context_length` or `threads`, and of `SafetySettings`, such as `safety_model`; what
    is left out comes from the environment and the settings file. Raises NotFound, FormatError, ModelError, OutOfMemory,
    InvalidSetting.
    """
    return Model(model, *library_settings(settings), supervised=supervised)


class Model:
    """A model in this process. Close it, or use it in a `with` statement, to free its memory. Any thread may use it."""

    def __init__(
        self, name: str, settings: ModelSettings, safety: SafetySettings = NO_SAFETY, *, supervised: bool = False
    ) -> None:
        """Load the model (see `load`)."""
        self._loop = LoopThread()
        try:
            self._model = self._loop.run(AsyncModel.load(name, settings, safety, supervised=supervised))
        except BaseException:
            self._loop.close()
            raise

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    def adapted(self, name: str, path: str | None = None) -> Model:
        """Return this model with a LoRA adapter, beside it on the same weights: closing one of them closes both.

        name: of an adapter that it was loaded with (`adapter="poems=poems.gguf"`), or of the one at `path`, GGUF or a
        folder of PEFT's, which is loaded now. Raises NotFound, InvalidRequest, FormatError, ModelError, OutOfMemory.
        """
        model = object.__new__(Model)
        model._loop, model._model = self._loop, self._loop.run(self._model.adapted(name, path))
        return model

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._model.context_length

    @overload
    def chat(
        self,
        messages: Said,
        *,
        tools: Tools = (),
        tool_choice: ToolChoice | None = None,
        stream: Literal[False] = False,
        **parameters: Unpack[Parameters],
    ) -> Answer: ...

    @overload
    def chat(
        self,
        messages: Said,
        *,
        tools: Tools = (),
        tool_choice: ToolChoice | None = None,
        stream: Literal[True],
        **parameters: Unpack[Parameters],
    ) -> Iterator[Event]: ...

    def chat(
        self,
        messages: Said,
        *,
        tools: Tools = (),
        tool_choice: ToolChoice | None = None,
        stream: bool = False,
        **parameters: Unpack[Parameters],
    ) -> Answer | Iterator[Event]:
        """Return the assistant's next message; with `stream`, yield its events while it is made.

        messages: a question, or a conversation of Messages or of mappings as OpenAI's API has them; tools likewise.
        tool_choice: whether a call is required, and of which tools; without it the model chooses.
        Closing the iterator ends the answer. Raises InvalidRequest, ContextOverflow, TemplateError, Overloaded.
        """
        if stream:
            return self._loop.iterate(
                self._model.chat(messages, tools=tools, tool_choice=tool_choice, stream=True, **parameters)
            )
        return self._loop.run(self._model.chat(messages, tools=tools, tool_choice=tool_choice, **parameters))

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
        if stream:
            return self._loop.iterate(self._model.complete(prompt, stream=True, **parameters))
        return self._loop.run(self._model.complete(prompt, **parameters))

    def generate(self, inputs: Input | Sequence[Input], **parameters: Any) -> Generated:
        """Continue an input, or all of a list in one batch, as Transformers' `generate` does.

        inputs: a text, its ids, or a conversation as `chat` takes it; or a list of these. parameters: those of
        `generate`, by their names, each honoured or refused by name (`num_beams`, `max_new_tokens`, `do_sample`,
        `bad_words_ids` …), and `seed`; input i is drawn with `seed` + i. What is left out is as the model's makers
        recommend, and an answer without a length ends itself. Raises InvalidRequest, ContextOverflow, TemplateError.
        """
        return self._loop.run(self._model.generate(inputs, **parameters))

    def text_completion(
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
        """Continue texts, all of them in one batch, as Meta's `Llama.text_completion` does.

        Returns a dictionary for each prompt: `generation`, and with `logprobs` the `tokens` as text and the natural
        logarithm of each one's probability before temperature and top_p. echo: the prompt is part of all of these; the
        token that begins it has the logarithm 0. seed: prompt i is drawn with `seed` + i; without one every call draws
        anew. A batch may have any length. Raises InvalidRequest, ContextOverflow. Source: generation.py of
        meta-llama/llama3.
        """
        return self._loop.run(
            self._model.text_completion(prompts, temperature, top_p, max_gen_len, logprobs, echo, seed=seed)
        )

    def chat_completion(
        self,
        dialogs: Sequence[Sequence[Message | Mapping[str, Any]]],
        temperature: float = 0.6,
        top_p: float = 0.9,
        max_gen_len: int | None = None,
        logprobs: bool = False,
        *,
        seed: int | None = None,
    ) -> list[ChatResult]:
        """Answer dialogs, all of them in one batch, as Meta's `Llama.chat_completion` does.

        dialogs: lists of messages with `role` and `content`. Returns a dictionary for each: `generation`, which is the
        assistant's message, and the lists of `text_completion`, whose other arguments mean the same here.
        Raises InvalidRequest, ContextOverflow, TemplateError.
        """
        return self._loop.run(
            self._model.chat_completion(dialogs, temperature, top_p, max_gen_len, logprobs, seed=seed)
        )

    def embed(
        self, texts: str | Sequence[str | Sequence[int]], *, dimensions: int | None = None, may_cut: bool = False
    ) -> list[list[float]]:
        """Return a vector of length 1 for each text (or its ids): what is alike points the same way.

        dimensions: the first so many only. may_cut: cut a text that is too long. Raises InvalidRequest,
        ContextOverflow.
        """
        return self._loop.run(self._model.embed(texts, dimensions=dimensions, may_cut=may_cut))

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Return the ids of a text. With `parse_special`, control tokens that are spelled out are control tokens."""
        return self._model.tokenize(text, parse_special=parse_special)

    def detokenize(self, ids: Iterable[int]) -> str:
        """Return the text of ids, control tokens left out."""
        return self._model.detokenize(ids)

    def close(self) -> None:
        """Unload the model. Doing it again does nothing."""
        if self._loop.is_open:
            self._loop.run(self._model.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
