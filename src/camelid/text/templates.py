"""Chat templates: messages and tools become a prompt.

Formats that are known by heart are rendered by our own code (`llama3`), Go templates by our own interpreter
(`go_template`); every other template is Jinja, rendered in a process with limits (`jinja_template`). Nothing here knows
models, files or HTTP; of the tokenizer only its control tokens matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from camelid.errors import TemplateError
from camelid.types import Message, ToolSpec

from .go_template import GoTemplate
from .jinja_template import JinjaTemplate
from .llama3 import LLAMA_3, LLAMA_3_1, LLAMA_3_2, META_3_1, Llama3Template, Style
from .prompt import Prompt
from .template_workers import WorkerLimits
from .tokenizer import Tokenizer

MAX_TEMPLATE = 256 * 2**10  # characters; the longest in use have 30,000


class ChatTemplate(Protocol):
    """Renders conversations for one model. `render` may be called from several threads; it blocks for two seconds at
    most, plus the start of a process after a template has gone over its limits."""

    @property
    def supports_tools(self) -> bool:
        """Whether the template has a place for tools."""

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        **options: Any,
    ) -> Prompt:
        """Return the prompt. `options` are those of `conversation.OPTIONS`.

        Raises TemplateError with the template's own words where it refuses the conversation, InvalidRequest for tools
        that it has no place for and for options and roles that are not known, Overloaded when other prompts keep it
        busy.
        """

    def close(self) -> None:
        """Free what rendering needs; the template is not used again."""


def load_template(source: str | None, tokenizer: Tokenizer, *, limits: WorkerLimits | None = None) -> ChatTemplate:
    """Return the chat template of a model.

    source: the Jinja text that came with the model. With None the vocabulary decides: Llama 3's has its format built
    in.
    Raises TemplateError when the text is too long, or when there is none and the vocabulary says nothing.
    """
    if source is None:
        return _built_in(_style_of(tokenizer), tokenizer)
    if len(source) > MAX_TEMPLATE:
        raise TemplateError(f"the chat template has {len(source)} characters, and at most {MAX_TEMPLATE} are read")
    style = known_templates().get(fingerprint(source))
    return JinjaTemplate(source, tokenizer, limits) if style is None else _built_in(style, tokenizer)


def load_go_template(source: str, tokenizer: Tokenizer) -> ChatTemplate:
    """Return the chat template that a Go template is, as models of Ollama have them. Raises TemplateError."""
    return GoTemplate(source, tokenizer)


def call_tag(template: ChatTemplate) -> str | None:
    """Return what tool calls begin with in the answers to a template's prompts; None where they are plain JSON."""
    return template.call_tag if isinstance(template, GoTemplate) else None


def fingerprint(source: str) -> str:
    """Return the SHA-256 of a template. A line end at its end does not count: files add one and Jinja drops it."""
    return hashlib.sha256(source.removesuffix("\n").encode("utf-8", errors="surrogatepass")).hexdigest()


def llama_3_1_jinja() -> str:
    """Return the Jinja template of Llama 3.1's format in our own words, for models that we write."""
    return files(__package__).joinpath("llama3_1.jinja").read_text("utf-8")


@cache
def known_templates() -> Mapping[str, Style]:
    """Return the format behind each fingerprint: those of the templates that Meta publishes, and of our own."""
    return {
        "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122": LLAMA_3,
        "4f46ecd43418f216df8c26936c60e5d04bcc81db47db5d86fbe889f64212dd4c": LLAMA_3,  # line ends written as \\n
        "93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7": LLAMA_3_1,  # 3.3 has the same
        "d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f": LLAMA_3_2,
        fingerprint(llama_3_1_jinja()): LLAMA_3_1,
    }


def _style_of(tokenizer: Tokenizer) -> Style:
    if not {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"} <= tokenizer.control.keys():
        raise TemplateError(
            "the model has no chat template, and its vocabulary is not Llama 3's",
            hint="use it for completions, or add a chat template to the model",
        )
    return META_3_1 if "<|python_tag|>" in tokenizer.control else LLAMA_3


def _built_in(style: Style, tokenizer: Tokenizer) -> Llama3Template:
    return Llama3Template(style, tokenizer.protected, tokenizer.spelling_of(tokenizer.bos_id))
