"""Jinja chat templates, rendered as Hugging Face's transformers would, in a process with limits.

Separate from `template_workers`, which knows processes, because this knows what a conversation looks like to a
template and which of its text comes from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from camelid.errors import InvalidRequest, TemplateError
from camelid.types import Message, ToolSpec

from .conversation import check_options, message_as_json, tool_as_json
from .prompt import Marks, Prompt, choose_marks, strings_in
from .template_workers import TemplateWorkers, WorkerLimits
from .tokenizer import Tokenizer

_MAX_OUTPUT = 2 * 2**20  # characters, beside twice the input: templates repeat some of it


class JinjaTemplate:
    """One model's template and the processes that render it."""

    def __init__(self, source: str, tokenizer: Tokenizer, limits: WorkerLimits | None = None) -> None:
        self._protected = tokenizer.protected
        ids = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.ends.eos_id, "unk_token": tokenizer.unknown_id}
        self._constants = {name: tokenizer.spelling_of(index) for name, index in ids.items() if index is not None}
        self._supports_tools = "tools" in source
        self._workers = TemplateWorkers(source, limits)

    @property
    def supports_tools(self) -> bool:
        """Whether the template has a place for tools."""
        return self._supports_tools

    def check(self) -> None:
        """Raise TemplateError unless the template compiles. `render` does too; this tells it while a model loads."""
        self._workers.check()

    def close(self) -> None:
        """End the template's processes."""
        self._workers.close()

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        **options: Any,
    ) -> Prompt:
        """Return the prompt. See `templates.ChatTemplate.render`."""
        check_options(options)
        if tools and not self._supports_tools:
            raise InvalidRequest("the model's chat template has no place for tools", field="tools")
        outside = {
            **options,
            "messages": [message_as_json(message) for message in messages],
            "tools": [tool_as_json(tool) for tool in tools] or None,
        }
        texts = list(strings_in(outside))
        marks = choose_marks(self._protected, texts)
        own = {**self._constants, "documents": None, "add_generation_prompt": add_generation_prompt}
        return Prompt(self._render(own | marks.mark_all(outside), marks, sum(map(len, texts))), marks)

    def _render(self, context: dict[str, Any], marks: Marks, num_characters: int) -> str:
        job = {
            "context": context,
            "plain": marks.plain,
            "private": marks.private,
            "now": datetime.now().isoformat(),
            "max_characters": _MAX_OUTPUT + 2 * num_characters,
        }
        reply = self._workers.render(job)
        if "error" not in reply:
            return str(reply["text"])
        words = marks.unmark(str(reply["error"]))
        raise TemplateError(words if reply["is_own"] else f"the chat template {words}", field="messages")
