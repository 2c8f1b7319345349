"""The chat formats of Llama 3, 3.1, 3.2 and 3.3, rendered without Jinja.

They are built in because they are this project's main case, because Meta's own checkpoints come without a template,
and because our own code needs no process to be safe. Two sources define them: the templates that Meta publishes with
the weights on Hugging Face, recognized by their SHA-256, and Meta's reference code (llama-models,
models/llama3/chat_format.py) with the prompt format pages. They differ in details, which `Style` names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from camelid.errors import InvalidRequest, TemplateError
from camelid.types import Message, ToolCall, ToolSpec

from .conversation import check_options, check_role, message_as_json, parsed_arguments, tool_as_json
from .prompt import Marks, Prompt, choose_marks, strings_in

CODE_INTERPRETER = "code_interpreter"

# The instructions are those that the models were trained with; a word changed is a worse answer.
_CALL_FORMAT = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
_TOOLS_FOR_SYSTEM = (
    "You have access to the following functions. To call a function, please respond with JSON for a function call."
)
_TOOLS_FOR_USER = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    "answers the given prompt.\n\n"
)


@dataclass(frozen=True)
class Style:
    """What distinguishes the formats of the family."""

    has_preamble: bool = True  # the system header with the dates, and tools: 3.1 and later
    fixed_date: str | None = None  # what "Today Date" says unless the caller tells; None: today
    knows_builtin_tools: bool = True
    # What Meta's reference code does, and its templates do not: keep white space around contents, write the results of
    # tools as they are (the templates write text as a JSON string), and say in a call that it is a function's.
    is_reference: bool = False


LLAMA_3 = Style(has_preamble=False)
LLAMA_3_1 = Style(fixed_date="26 Jul 2024")
LLAMA_3_2 = Style(knows_builtin_tools=False)
META_3_1 = Style(is_reference=True)


class Llama3Template:
    """One of the formats, for one vocabulary."""

    def __init__(self, style: Style, protected: str, bos: str) -> None:
        self._style = style
        self._protected = protected
        self._bos = bos

    @property
    def supports_tools(self) -> bool:
        """Whether the format has a place for tools: from 3.1 on."""
        return self._style.has_preamble

    def close(self) -> None:
        """Do nothing: the format needs no process."""

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
        if tools and not self.supports_tools:
            raise InvalidRequest("Llama 3's chat format has no place for tools; 3.1's has", field="tools")
        listed = [tool_as_json(tool) for tool in tools]
        said = [message_as_json(message) for message in messages]
        marks = choose_marks(self._protected, strings_in([*options.values(), listed, said]))
        writer = _Writer(self._style, marks, options)
        body = writer.conversation(messages, listed)
        tail = _header("assistant") if add_generation_prompt else ""
        return Prompt(self._bos + "".join(body) + tail, marks)


@dataclass(frozen=True)
class _Writer:
    """Writes one conversation. Every string from outside passes `marks.mark` where it enters the prompt."""

    style: Style
    marks: Marks
    options: Mapping[str, Any]

    def conversation(self, messages: Sequence[Message], tools: list[dict[str, Any]]) -> Iterator[str]:
        if self.style.has_preamble:
            has_system = bool(messages) and messages[0].role == "system"
            yield self._system(messages[0].content if has_system else "", tools)
            messages = messages[int(has_system) :]
            if tools and self.options.get("tools_in_user_message", True):
                yield self._first_user_message(messages, tools)
                messages = messages[1:]
        for message in messages:
            yield self._message(message)

    def _system(self, content: str, tools: list[dict[str, Any]]) -> str:
        today = self.options.get("date_string") or self.style.fixed_date or self._today()
        lines = ["Environment: ipython\n"] if tools or self._builtin_tools is not None else []
        if self._builtin_tools is not None:
            named = [name for name in self._builtin_tools if name != CODE_INTERPRETER]
            lines.append(f"Tools: {self.marks.mark(', '.join(named))}\n\n")
        lines.append(f"Cutting Knowledge Date: December 2023\nToday Date: {self.marks.mark(today)}\n\n")
        if tools and not self.options.get("tools_in_user_message", True):
            lines += [_TOOLS_FOR_SYSTEM, _CALL_FORMAT, self._tool_list(tools)]
        return f"{_header('system')}{''.join(lines)}{self._content(content)}<|eot_id|>"

    def _first_user_message(self, messages: Sequence[Message], tools: list[dict[str, Any]]) -> str:
        if not messages:
            raise TemplateError(
                "Cannot put tools in the first user message when there's no first user message!", field="messages"
            )
        content = self._content(messages[0].content)
        return f"{_header('user')}{_TOOLS_FOR_USER}{_CALL_FORMAT}{self._tool_list(tools)}{content}<|eot_id|>"

    def _message(self, message: Message) -> str:
        role = check_role(message)
        if not self.style.has_preamble:
            return f"{_header(role)}{self._content(message.content)}<|eot_id|>"
        if message.tool_calls:
            return self._calls(message)
        if role == "tool":
            return f"{_header('ipython')}{self._result(message.content)}<|eot_id|>"
        return f"{_header(role)}{self._content(message.content)}<|eot_id|>"

    def _calls(self, message: Message) -> str:
        """Write the assistant's calls. Meta's templates take one only; several are written as the models write them."""
        calls = "; ".join(map(self._call, message.tool_calls))
        content = self._content(message.content) if self.style.is_reference else ""
        end = "<|eot_id|>" if self._builtin_tools is None else "<|eom_id|>"
        return f"{_header('assistant')}{content}{calls}{end}"

    def _call(self, call: ToolCall) -> str:
        arguments = parsed_arguments(call.arguments)
        if self._builtin_tools is not None and call.name in self._builtin_tools and isinstance(arguments, dict):
            return "<|python_tag|>" + self.marks.mark(self._builtin_call(call.name, arguments))
        if self.style.is_reference:
            return self.marks.mark(json.dumps({"type": "function", "name": call.name, "parameters": arguments}))
        return self.marks.mark(f'{{"name": "{call.name}", "parameters": {_json(arguments)}}}')

    def _builtin_call(self, name: str, arguments: dict[str, Any]) -> str:
        if self.style.is_reference and name == CODE_INTERPRETER:
            return str(arguments.get("code", ""))
        written = ", ".join(f'{key}="{value}"' for key, value in arguments.items())
        return f"{name}.call({written})"

    def _result(self, content: str) -> str:
        return self.marks.mark(content if self.style.is_reference else _json(content))

    def _content(self, content: str) -> str:
        return self.marks.mark(content if self.style.is_reference else content.strip())

    def _tool_list(self, tools: list[dict[str, Any]]) -> str:
        return self.marks.mark("".join(_json(tool, indent=4) + "\n\n" for tool in tools))

    def _today(self) -> str:
        return date.today().strftime("%d %B %Y" if self.style.is_reference else "%d %b %Y")

    @property
    def _builtin_tools(self) -> list[str] | None:
        return self.options.get("builtin_tools") if self.style.knows_builtin_tools else None


def _header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
