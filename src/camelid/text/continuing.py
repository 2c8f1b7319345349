"""A prompt that ends inside the assistant's last message, for the model to go on with it.

Templates close every message, and each in its own way. So the message gets a last character that nothing else has, and
the prompt is cut where the template put it: right for every kind of template, with nothing of the text trimmed away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from camelid.errors import TemplateError
from camelid.types import Message, ToolSpec

from .conversation import message_as_json, tool_as_json
from .prompt import Prompt, free_private, strings_in
from .templates import ChatTemplate


def render_open(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **options: Any
) -> Prompt:
    """Return the prompt of a conversation up to the end of its last message's text. Raises as `template.render` does,
    and TemplateError where the template does not show that text.

    Source: `continue_final_message` of Transformers' `apply_chat_template`.
    """
    said = [message_as_json(message) for message in messages]
    listed = [tool_as_json(tool) for tool in tools]
    end = free_private(strings_in([options, said, listed]))
    marked = (*messages[:-1], replace(messages[-1], content=messages[-1].content + end))
    prompt = template.render(marked, tools, add_generation_prompt=False, **options)
    text, found, _ = prompt.marked.rpartition(end)
    if not found:
        raise TemplateError(
            "the chat template does not show the last message, so it cannot be gone on with", field="messages"
        )
    return Prompt(text, prompt.marks)
