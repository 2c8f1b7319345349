"""What a model is called: `[scheme://][host[:port]/][namespace/]model[:tag]`, or `meta:model`, as one value with one
parser.

Nothing is ever joined into a path or a URL but the parts of a `Name`, and a part holds only what PART admits: no slash,
no dots alone, nothing that a file system or a URL reads in its own way.

Sources: the grammar and bounds of Ollama's names; Docker's references for `docker.io` and `ai/`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from camelid.errors import InvalidRequest

OLLAMA = "registry.ollama.ai"
DOCKER = "docker.io"
HUGGING_FACE = "hf.co"
META = "meta"  # no host: Meta hands out signed URLs
DEFAULT_NAMESPACE = {OLLAMA: "library", DOCKER: "ai"}
DEFAULT_TAG = "latest"
_ALIASES = {"index.docker.io": DOCKER, "registry-1.docker.io": DOCKER, "huggingface.co": HUGGING_FACE}

MAX_HOST, MAX_PART = 350, 80
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII)
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?", re.ASCII)
_HINT = (
    "names look like llama3.1:8b, someone/model:tag, ai/llama3.1, hf.co/org/repo:Q4_K_M, meta:8b-instruct or "
    "localhost:5000/ns/m"
)


@dataclass(frozen=True, order=True)
class Name:
    """A model in a registry. `is_plain`: reached by http, which only a name that says so is."""

    host: str
    namespace: str
    model: str
    tag: str = DEFAULT_TAG
    is_plain: bool = False

    def __str__(self) -> str:
        """The shortest name that means the same."""
        if self.host == META:
            return f"{META}:{self.model}"
        short = self._short()
        # A namespace of Ollama's may be called `ai` or `localhost`, and a model `meta`.
        return short if parse_name(short).parts == self.parts else f"{self.host}/{self.namespace}/{self._last}"

    def _short(self) -> str:
        if self.host == OLLAMA:
            return self._last if self.namespace == "library" else f"{self.namespace}/{self._last}"
        if self.host == DOCKER and self.namespace == "ai":
            return f"ai/{self._last}"
        return f"{self.host}/{self.namespace}/{self._last}"

    @property
    def _last(self) -> str:
        return f"{self.model}:{self.tag}"

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Host, namespace, model and tag: the folders and the file of its manifest."""
        return self.host, self.namespace, self.model, self.tag

    @property
    def repository(self) -> str:
        """What a registry calls the model, without the tag."""
        return f"{self.namespace}/{self.model}"


def parse_name(text: str, default_host: str = OLLAMA) -> Name:
    """Return the name that `text` means. A name without a host is one of `default_host`, except `ai/…` (Docker's).

    Raises InvalidRequest for what is no name.
    """
    if text.lower().startswith(f"{META}:") and "/" not in text:
        return _meta(text)
    scheme, rest = _scheme(text)
    host, namespace, last = _split(rest, text, default_host)
    model, colon, tag = last.partition(":")
    tag = tag if colon else DEFAULT_TAG
    host = _ALIASES.get(host.lower(), host.lower())
    namespace = DEFAULT_NAMESPACE.get(host, "library") if namespace is None else namespace
    if len(host) > MAX_HOST or host == META or not _HOST.fullmatch(host):
        raise _bad(text, "host", host)
    for what, part, pattern in (("namespace", namespace, _NAMESPACE), ("model", model, PART), ("tag", tag, PART)):
        if not pattern.fullmatch(part):
            raise _bad(text, what, part)
    return Name(host, namespace, model, tag, is_plain=scheme == "http")


def _meta(text: str) -> Name:
    """Return the name of a model as Meta calls it: `meta:Meta-Llama-3-8B-Instruct`; `8b-instruct` is short for that."""
    model = text[len(META) + 1 :]
    if re.fullmatch(r"(8|70)b(-instruct)?", model.lower()):
        model = "Meta-Llama-3-" + model.upper().replace("-INSTRUCT", "-Instruct")
    if not PART.fullmatch(model):
        raise _bad(text, "model", model)
    return Name(META, "llama", model)


def _scheme(text: str) -> tuple[str, str]:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return "https", text
    if scheme not in ("http", "https", "oci"):
        raise _bad(text, "scheme", scheme)
    return scheme, rest


def _split(rest: str, text: str, default_host: str) -> tuple[str, str | None, str]:
    """Return host, namespace (None where none is given) and model with tag."""
    match rest.split("/"):
        case [last]:
            return default_host, None, last
        case ["ai", last]:
            return DOCKER, "ai", last
        case [first, last] if _is_host(first):
            return first, None, last
        case [namespace, last]:
            return default_host, namespace, last
        case [host, namespace, last]:
            return host, namespace, last
    raise _bad(text, "number of slashes", rest.count("/"))


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost"


def _bad(text: str, what: str, value: object) -> InvalidRequest:
    return InvalidRequest(
        f"{text[:100]!r} is no model name: its {what} is {str(value)[:80]!r}", field="model", hint=_HINT
    )
