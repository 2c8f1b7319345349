"""The words that all rooms share: messages, tools, sampling, requests, events.

Plain frozen values, no behaviour beyond checking themselves. Every dialect turns its own JSON into these, everything
below speaks only these.
A value that exists is valid: the checks run when it is made, and nothing checks again.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from camelid.errors import BadGrammar, InvalidRequest
from camelid.rules import Beams, Rules
from camelid.rules import check_count as _check_count
from camelid.rules import check_range as _check_range

MAX_SEED = 2**64 - 1
MAX_CHOICES = 8  # each choice takes a sequence; an unbounded n lets one caller fill the engine
MAX_TOP_LOGPROBS = 20  # OpenAI's bound
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256  # characters
MAX_LOGIT_BIAS = 1024  # entries
MAX_INPUTS = 2048  # of one request for embeddings; OpenAI's bound
MAX_GRAMMAR = 64 * 2**10  # characters of a schema or grammar
MAX_REGEX = 4 * 2**10  # characters
MAX_CALLS_GRAMMAR = 2**20  # characters of what is made of all tools; each of their schemas has MAX_GRAMMAR

Role = Literal["system", "user", "assistant", "tool"]
Direction = Literal["input", "output"]


@dataclass(frozen=True)
class ToolCall:
    """A call that the assistant made. `arguments` is JSON text, as it was generated."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolSpec:
    """A function that the model may call. `parameters` is a JSON schema; `is_strict`: every call must be valid under
    it, also where the model chooses by itself to call.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_strict: bool = False


@dataclass(frozen=True)
class ToolChoice:
    """What is asked of the model about its tools. `is_required` makes the answer a call, and nothing but calls.

    `names` leaves only these tools to be called, all if it is None. `allows_several` False ends the answer after one
    call.
    """

    is_required: bool = False
    names: tuple[str, ...] | None = None
    allows_several: bool = True


@dataclass(frozen=True)
class Message:
    """One message of a conversation. A `tool` message answers the call `tool_call_id` of the tool `name`."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The defaults leave the model's distribution as it is.

    Applied in this order: the mask of a grammar, logit_bias, repetition, presence and frequency penalties, temperature,
    top_k, typical_p, top_p, min_p. Where `rules.Rules` come with it, its order counts: typical_p after min_p.
    `temperature` 0 takes the most likely token (ties: the lowest id). `top_k` 0, `top_p` 1, `min_p` 0,
    `typical_p` 1 switch a filter off.
    `repetition_penalty` counts prompt and answer (as Transformers does), presence and frequency the answer only
    (as OpenAI does);
    all three look back over the last `penalty_window` tokens, everything if it is None.
    The draw at a position depends on (seed, choice, position) and the logits, and on nothing else.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_window: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        _check_range("temperature", self.temperature, 0.0, 100.0)
        _check_count("top_k", self.top_k, 0, 2**31 - 1)
        _check_range("top_p", self.top_p, 0.0, 1.0)
        _check_range("min_p", self.min_p, 0.0, 1.0)
        _check_range("typical_p", self.typical_p, 0.0, 1.0)
        _check_range("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _check_range("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _check_count("seed", self.seed, 0, MAX_SEED)
        if self.penalty_window is not None:
            _check_count("penalty_window", self.penalty_window, 0, 2**31 - 1)
        if len(self.logit_bias) > MAX_LOGIT_BIAS:
            raise InvalidRequest(
                f"logit_bias must have at most {MAX_LOGIT_BIAS} entries, got {len(self.logit_bias)}", field="logit_bias"
            )
        for bias in self.logit_bias.values():
            _check_range("logit_bias", bias, -100.0, 100.0)


@dataclass(frozen=True)
class Stopping:
    """When an answer ends.

    `max_tokens` None means: when the context is full. Stop strings are not part of the answer. `max_length` and
    `min_length` count the prompt, too; `max_tokens` counts where both are given. `max_seconds` ends an answer after
    that time. `end_ids` are the tokens that end one, None for those of the model's vocabulary.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    max_length: int | None = None
    min_length: int = 0
    max_seconds: float | None = None
    end_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_length is not None:
            _check_count("max_length", self.max_length, 1, 2**31 - 1)
        _check_count("min_length", self.min_length, 0, 2**31 - 1)
        if self.max_seconds is not None:
            _check_range("max_seconds", self.max_seconds, 0.0, 1e9)
        if self.max_tokens is not None:
            _check_count("max_tokens", self.max_tokens, 1, 2**31 - 1)
        _check_count("min_tokens", self.min_tokens, 0, 2**31 - 1)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequest(
                f"min_tokens must be at most max_tokens ({self.max_tokens}), got {self.min_tokens}", field="min_tokens"
            )
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidRequest(
                f"stop must have at most {MAX_STOP_STRINGS} strings, got {len(self.stop)}", field="stop"
            )
        for text in self.stop:
            if not 1 <= len(text) <= MAX_STOP_LENGTH:
                raise InvalidRequest(
                    f"a stop string must have 1–{MAX_STOP_LENGTH} characters, got {len(text)}", field="stop"
                )


class GrammarKind(Enum):
    """In which language a grammar is written."""

    JSON_SCHEMA = "json_schema"  # JSON that a schema describes; what cannot be enforced is refused
    LENIENT_SCHEMA = "lenient_schema"  # the same, but what cannot be enforced is left to the model
    REGEX = "regex"  # text that a regular expression matches from its beginning to its end
    LARK = "lark"  # Lark's notation, in the variant of llguidance
    GBNF = "gbnf"  # llama.cpp's notation
    CALLS = "calls"  # Lark, as it is written here for the calls of tools


@dataclass(frozen=True)
class Grammar:
    """What the text of an answer must be. `source` is text in the language `kind`.

    `field` is what the caller calls it, for errors. Only the length is checked here: the rest costs time, and is the
    business of the room `grammar`.
    """

    kind: GrammarKind
    source: str
    field: str = "grammar"

    def __post_init__(self) -> None:
        most = {GrammarKind.REGEX: MAX_REGEX, GrammarKind.CALLS: MAX_CALLS_GRAMMAR}.get(self.kind, MAX_GRAMMAR)
        if not 1 <= len(self.source) <= most:
            raise BadGrammar(
                f"{self.field} must have 1–{most} characters, got {len(self.source)}",
                field=self.field,
            )

    @classmethod
    def schema(cls, schema: object, field: str, *, is_lenient: bool = False) -> Grammar:
        """Return the grammar of JSON that `schema` describes. Raises BadGrammar if it is too long or no JSON."""
        try:
            source = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadGrammar(f"{field} is no JSON: {error}", field=field) from error
        return cls(GrammarKind.LENIENT_SCHEMA if is_lenient else GrammarKind.JSON_SCHEMA, source, field)

    @classmethod
    def json_object(cls, field: str) -> Grammar:
        """Return the grammar of any JSON object."""
        return cls.schema({"type": "object"}, field)

    @classmethod
    def choice(cls, texts: Sequence[str], field: str) -> Grammar:
        """Return the grammar that leaves these texts to choose from."""
        if not texts or not all(texts):
            raise BadGrammar(f"{field} must have at least one text, and no empty one", field=field)
        return cls(GrammarKind.LARK, "start: " + " | ".join(map(json.dumps, texts)), field)


@dataclass(frozen=True)
class Generation:
    """What every request for text has in common.

    `top_logprobs` None asks for no log-probabilities, 0 for the chosen token's only. An answer under a `grammar` ends
    where the grammar ends, so neither `min_tokens` nor `ignore_eos` can be asked beside it. With `beams`, `num_choices`
    are the best answers of one search; they come all at once, at its end.
    """

    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    num_choices: int = 1
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    rules: Rules | None = None
    beams: Beams | None = None

    def __post_init__(self) -> None:
        _check_count("n", self.num_choices, 1, MAX_CHOICES)
        if self.top_logprobs is not None:
            _check_count("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        if self.grammar is not None:
            self._check_end(self.grammar)
        if self.beams is not None:
            self._check_beams(self.beams)

    def _check_beams(self, beams: Beams) -> None:
        if self.num_choices > beams.num_beams:
            raise InvalidRequest(f"n must be at most num_beams ({beams.num_beams}), got {self.num_choices}", field="n")
        if self.rules is not None and self.rules.guides:
            raise InvalidRequest("guidance_scale cannot be kept together with num_beams", field="guidance_scale")

    def _check_end(self, grammar: Grammar) -> None:
        for name in ("min_tokens", "min_length", "ignore_eos"):
            if getattr(self.stopping, name):
                raise InvalidRequest(f"{name} cannot be kept together with {grammar.field}", field=name)

    @property
    def gives_scores(self) -> bool:
        """True when log-probabilities are asked for."""
        return self.top_logprobs is not None


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to be continued by the assistant. `template` is a Go template in place of the model's own.

    `continues_last`: the last message is the assistant's, and the answer goes on with its text instead of beginning a
    message of its own.
    `skips_safety` leaves out the checks of a model that is watched; only an operator may ask for it.
    `before`: ids that stand before the prompt, as an earlier turn left them: its prompt and its answer.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    generation: Generation = Generation()
    template: str | None = None
    tool_choice: ToolChoice = ToolChoice()
    continues_last: bool = False
    skips_safety: bool = False
    before: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.continues_last and not ends_open(self.messages):
            raise InvalidRequest("an answer goes on with text of the assistant, as the last message", field="messages")


def ends_open(messages: Sequence[Message]) -> bool:
    """Say whether a conversation ends with text of the assistant, which an answer could go on with."""
    return bool(messages) and messages[-1].role == "assistant" and not messages[-1].tool_calls


@dataclass(frozen=True)
class CompletionRequest:
    """A text, or token ids, to be continued as they stand: no chat template.

    `suffix` is the text that is to follow the answer, for models that were trained to fill in; the model's template,
    or the Go template `template` in its place, may say how it is told. With `echo` the prompt comes back as text, and
    with the scores of its tokens where `generation` asks for log-probabilities. `skips_safety` as in `ChatRequest`.
    """

    model: str
    prompt: str | tuple[int, ...]
    generation: Generation = Generation()
    suffix: str | None = None
    echo: bool = False
    template: str | None = None
    skips_safety: bool = False


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts, or token ids, that are to become vectors.

    `dimensions` None asks for as many as the model has. `may_cut`: an input that is too long is cut, not refused.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    may_cut: bool = False

    def __post_init__(self) -> None:
        _check_count("the number of inputs", len(self.inputs), 1, MAX_INPUTS)


@dataclass(frozen=True)
class Embeddings:
    """A vector for each input, as arrays of 32-bit floats (typecode `f`)."""

    vectors: tuple[array[float], ...]
    prompt_tokens: int


@dataclass(frozen=True)
class RankRequest:
    """Texts that are to be put in order by how well they answer a query."""

    model: str
    query: str
    documents: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_count("the number of documents", len(self.documents), 1, MAX_INPUTS)


@dataclass(frozen=True)
class Ranking:
    """A score from 0 to 1 for each document, in the order in which they were given."""

    scores: tuple[float, ...]
    prompt_tokens: int


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"  # an end-of-turn token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    TOOL_CALLS = "tool_calls"  # the model called tools
    CONTENT_FILTER = "content_filter"  # a safety model judged the request or the answer unsafe


@dataclass(frozen=True)
class Category:
    """What a safety policy forbids: its key in verdicts (`S1`), its name, and what it covers in the policy's words."""

    key: str
    name: str
    description: str = ""


@dataclass(frozen=True)
class Refusal:
    """What a safety model found unsafe: the request (`input`) or the answer (`output`), and under which categories."""

    direction: Direction
    categories: tuple[Category, ...]

    @property
    def text(self) -> str:
        """A sentence that says so."""
        names = ", ".join(f"{category.key} {category.name}" for category in self.categories)
        what = "The request" if self.direction == "input" else "The answer"
        return f"{what} was judged unsafe: {names}."


@dataclass(frozen=True)
class Usage:
    """Tokens counted for one request, over all its choices."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class TokenScore:
    """The natural logarithm of a token's probability, before any sampling filter, with the likeliest alternatives."""

    id: int
    piece: bytes
    logprob: float
    top: tuple[TokenScore, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """A text as a model reads it: ids, the bytes of each, and how many the model can read and write together."""

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    context_length: int


@dataclass(frozen=True)
class Echo:
    """A prompt as text, and the scores of its tokens if they were asked for.

    `first` is the first token where there is nothing before it that it could be likely behind; a token that was only
    put in front to begin the text is not part of the echo.
    """

    text: str
    first: bytes | None = None
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True)
class Started:
    """The request was admitted; its prompt has this many tokens, of which `cached_tokens` were already computed.

    `choice` is the first of its answers: not 0 where several requests are answered together. `ids` are the prompt's.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    echo: Echo | None = None
    choice: int = 0
    ids: Sequence[int] = field(default=(), compare=False)


@dataclass(frozen=True)
class Text:
    """A piece of the answer `choice`, never half a character.

    `scores` belong to the tokens that became text since the last event.
    """

    text: str
    choice: int = 0
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str
    choice: int = 0


@dataclass(frozen=True)
class ToolCalled:
    """A complete tool call of the answer `choice`; `index` counts the calls of this answer from 0."""

    call: ToolCall
    index: int = 0
    choice: int = 0


@dataclass(frozen=True)
class Finished:
    """The answer `choice` is complete. The last `Finished` of a request carries the usage of the whole request.

    `score` is that of a search with beams (see `rules.Beams`). `ids` are all tokens of the answer, its end token
    included.
    `refusal` is there when `reason` is CONTENT_FILTER, and tells why.
    """

    reason: FinishReason
    choice: int = 0
    usage: Usage | None = None
    stop: str | None = None  # the stop string that was hit
    score: float | None = None
    ids: tuple[int, ...] = field(default=(), compare=False)
    refusal: Refusal | None = None


Event = Started | Text | Reasoning | ToolCalled | Finished
