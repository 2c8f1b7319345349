"""Every error that Camelid raises on purpose, as one tree.

CamelidError
├── FormatError               a weights file is not what it claims to be
│   ├── TruncatedFile         it ends before something that it announces
│   └── UnsupportedFormat     well formed, but of a version, type or kind that is not read
├── ModelError                the file is sound, the model in it is not usable
│   ├── UnsupportedModel      an architecture or a feature that is not implemented
│   ├── MissingTensor         a weight that the architecture needs is not there
│   ├── BrokenLogits          it computed NaN or infinity, or left no token to choose
│   └── BadVocabulary         the tokenizer is incomplete, contradicts itself or does not match the weights
├── NotFound                  no such model, file or object
│   └── MissingModel          a name that no store here has; it may be fetched
├── StoreError                what lies in a store, or was to be put there
│   ├── StoreFull             the disk has no room for it
│   ├── DamagedBlob           a content is not the one that its digest names
│   ├── DamagedManifest       the list of a model's blobs cannot be read
│   └── BadModelfile          a Modelfile says what cannot be
├── RegistryError             a registry refused, broke off or answered what it may not
├── InvalidRequest            what the caller asked cannot be done as asked
│   ├── BadGrammar            a schema, regex or grammar that is none, or that is over its limits
│   ├── ContextOverflow       the prompt, or prompt and answer, exceed the context length
│   └── TemplateError         a chat template failed, or went over its time or memory
├── InvalidSetting            an operator's setting has an impossible value
├── Unauthorized              no key, or a key that is not known
├── Overloaded                the queue is full; carries when to try again
├── RequestsFailed            the engine gave these requests up and goes on with the others
├── OutOfMemory               the model or its cache does not fit
├── Unavailable               the engine is gone or the server is leaving
│   ├── ProtocolError         what came over the line between front and engine is not what was agreed
│   └── Unjudged              the safety model could not be asked, so the request is not answered
├── BadVerdict                a safety model answered with something that is no verdict
├── Cancelled                 the caller gave the request up
└── MissingDependency         an optional package is needed; the hint says how to install it

Each carries a sentence (what was wrong, with the value and the bound) and, where it is known, a hint (what to do next).
Doors catch `CamelidError` once: the server maps it to a status, the command prints `error:` and `hint:`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class CamelidError(Exception):
    """Base of all errors raised on purpose. `hint`, if there is one, is an imperative sentence for the user."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Violation:
    """What exactly a file got wrong: which field, the value found, and the rule or bound that it breaks."""

    field: str
    value: object
    rule: str


class FormatError(CamelidError):
    """A weights file breaks its format. Carries the file and the `Violation`."""

    def __init__(self, path: Path | str, field: str, value: object, rule: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {field} is {_brief(value)}, but {rule}", hint=hint)
        self.path = Path(path)
        self.violation = Violation(field, value, rule)


class TruncatedFile(FormatError):
    """A file ends before something that its header announces."""


class UnsupportedFormat(FormatError):
    """A file of a version, block type or kind that Camelid does not read."""


class ModelError(CamelidError):
    """The weights file is sound, but no usable model can be made from it."""


class UnsupportedModel(ModelError):
    """An architecture, or a feature of one, that Camelid does not implement."""


class MissingTensor(ModelError):
    """A weight that the architecture needs is absent or has another shape."""


class BrokenLogits(ModelError):
    """Logits from which no token can be drawn: NaN, infinite, or all ruled out. `rows` says which rows."""

    def __init__(self, rows: tuple[int, ...], *, hint: str | None = None) -> None:
        numbers = ", ".join(map(str, rows))
        super().__init__(f"the logits of row {numbers} hold NaN, infinity or no token to choose", hint=hint)
        self.rows = rows


class BadVocabulary(ModelError):
    """A tokenizer's vocabulary is incomplete, contradicts itself or does not match the weights."""


class NotFound(CamelidError):
    """No model, file or object of that name."""


class MissingModel(NotFound):
    """A model that has a proper name, and that no store on this machine has."""


class StoreError(CamelidError):
    """Something in a store of models is wrong, or cannot be put there."""


class StoreFull(StoreError):
    """The disk has no room for what is to be stored."""


class DamagedBlob(StoreError):
    """A content that is not the one that its digest names."""


class DamagedManifest(StoreError):
    """The list of a model's blobs breaks its format."""


class BadModelfile(StoreError):
    """A Modelfile with a line that is no instruction, or a value that cannot be."""


class RegistryError(CamelidError):
    """A registry refused, broke off or answered what it may not. `status` is HTTP's, where there was an answer."""

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class InvalidRequest(CamelidError):
    """A request that cannot be honoured as asked. `field` names the offending field where there is one."""

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class BadGrammar(InvalidRequest):
    """A JSON schema, regular expression or grammar that is not one, asks for what cannot be enforced, or costs too
    much.
    """


class ContextOverflow(InvalidRequest):
    """More tokens than the context holds. Carries both counts; nothing is ever cut in silence."""

    def __init__(self, num_tokens: int, limit: int, *, what: str = "the prompt") -> None:
        super().__init__(
            f"{what} has {num_tokens} tokens, and the context holds {limit}",
            field="messages",
            hint=f"shorten it to {limit} tokens, or load the model with a longer context (--context-length)",
        )
        self.num_tokens = num_tokens
        self.limit = limit


class TemplateError(InvalidRequest):
    """A chat template failed to render, or went over its limits of time, memory or output. `line` says where."""

    def __init__(
        self, message: str, *, field: str | None = None, hint: str | None = None, line: int | None = None
    ) -> None:
        super().__init__(message, field=field, hint=hint)
        self.line = line


class InvalidSetting(CamelidError):
    """A setting (flag, variable or file entry) with an impossible value."""


class Unauthorized(CamelidError):
    """No API key, or one that is not known."""


class Overloaded(CamelidError):
    """The queue is full. `retry_after_s` estimates, from the measured rate, when there is room again."""

    def __init__(self, message: str, *, retry_after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class RequestsFailed(CamelidError):
    """The engine gave up the requests in `request_ids`; all others are untouched. The cause is chained."""

    def __init__(self, request_ids: tuple[str, ...], reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"request {', '.join(request_ids)} failed: {reason}", hint=hint)
        self.request_ids = request_ids


class OutOfMemory(CamelidError):
    """The model, or the cache for the context asked for, does not fit into memory."""


class Unavailable(CamelidError):
    """The engine is gone for good, or the server is leaving."""


class ProtocolError(Unavailable):
    """A frame between the front and an engine process is too long, cut off or not a known message."""


class Unjudged(Unavailable):
    """A safety check could not be made, and without one nothing is answered. The cause is chained."""


class BadVerdict(CamelidError):
    """A safety model answered with something that is no verdict."""


class Cancelled(CamelidError):
    """The caller gave the request up."""


class MissingDependency(CamelidError):
    """An optional package is needed. The hint says which extra installs it."""


def _brief(value: object) -> str:
    """Return `value` for a message: strings quoted, nothing longer than 120 characters."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"
