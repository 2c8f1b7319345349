"""Go chat templates, rendered as Ollama renders them: whole conversations, turn by turn, or a gap to be filled.

Separate from the language, which knows no conversation, and from `jinja_template`, which needs processes: our own
interpreter counts what it does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from camelid.errors import InvalidRequest, TemplateError
from camelid.types import Message, ToolSpec

from .conversation import check_options, message_as_json, tool_as_json
from .gotemplate import Budget, Limits, TemplateSet, parse, render
from .gotemplate.questions import call_tag, names_in, up_to_response, with_response
from .ollama_values import messages_value, tools_value
from .prompt import Marks, Prompt, choose_marks, strings_in
from .tokenizer import Tokenizer

MAX_TEMPLATE = 256 * 2**10  # characters; the longest in use have 10,000

_PRIVATE = re.compile("[\U000f0000-\U000ffffd]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_DEFAULT = "{{ .Prompt }}"  # what Ollama takes for a model without a template


class GoTemplate:
    """One model's Go template, for one vocabulary. Any thread may render; it takes two seconds at most."""

    def __init__(self, source: str, tokenizer: Tokenizer, limits: Limits | None = None) -> None:
        """Parse a template. Raises TemplateError with the line."""
        if len(source) > MAX_TEMPLATE:
            raise TemplateError(f"the Go template has {len(source)} characters, and at most {MAX_TEMPLATE} are read")
        templates = parse(source or _DEFAULT)
        self._names = names_in(templates)
        if not self._names & {"messages", "response"}:
            templates = with_response(templates)
        self._templates = templates
        self._last_turn = up_to_response(templates)
        self._protected = tokenizer.protected
        self._own_private = "".join(_PRIVATE.findall(source))
        self._bos = tokenizer.spelling_of(tokenizer.bos_id) if tokenizer.ends.adds_bos else ""
        self._limits = limits or Limits()
        # A call that is plain JSON is told from text as for any model of Llama's family, which is stricter about names.
        self.call_tag = tag if (tag := call_tag(templates)) not in ("", "{") else None

    @property
    def supports_tools(self) -> bool:
        """Whether the template has a place for tools."""
        return "tools" in self._names

    @property
    def supports_insert(self) -> bool:
        """Whether the template has a place for the text after a gap."""
        return "suffix" in self._names

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        **options: Any,
    ) -> Prompt:
        """Return the prompt. See `templates.ChatTemplate.render`.

        Where the answer begins the template alone decides: `add_generation_prompt` changes nothing.
        """
        check_options(options)
        if tools and not self.supports_tools:
            raise InvalidRequest("the model's chat template has no place for tools", field="tools")
        outside = {
            "messages": [message_as_json(message) for message in messages],
            "tools": [tool_as_json(tool) for tool in tools],
            "level": options.get("reasoning_effort", ""),
        }
        think = options.get("enable_thinking", options.get("thinking"))
        own: dict[str, Any] = {"Think": bool(think), "IsThinkSet": think is not None}
        writer = _Writer(outside, self._protected, self._own_private, self._limits)
        own["ThinkLevel"] = writer.given["level"]
        if "messages" in self._names:
            text = writer.write(self._templates, _conversation(writer.given) | own)
        else:
            text = self._turn_by_turn(writer, own)
        return self._prompt(text, writer.marks)

    def render_insert(self, prompt: str, suffix: str) -> Prompt:
        """Return the prompt for a text between two others. Raises InvalidRequest where the template has no place."""
        if not self.supports_insert:
            raise InvalidRequest("the model's template has no place for a suffix", field="suffix")
        writer = _Writer({"prompt": prompt, "suffix": suffix}, self._protected, self._own_private, self._limits)
        values = {"Prompt": writer.given["prompt"], "Suffix": writer.given["suffix"], "Response": ""}
        return self._prompt(writer.write(self._templates, values | {"Think": False, "IsThinkSet": False}), writer.marks)

    def _turn_by_turn(self, writer: _Writer, own: dict[str, Any]) -> str:
        """Render a template that knows one turn only, once for each."""
        written: list[str] = []
        turn = {"System": "", "Prompt": "", "Response": ""}
        for message in messages_value(writer.given["messages"]):
            role, content = message.fields["Role"], message.fields["Content"]
            ends_turn = turn["Response"] or (role == "system" and turn["Prompt"])
            if role in ("system", "user") and ends_turn:
                written.append(writer.write(self._templates, turn | own))
                turn = {"System": "", "Prompt": "", "Response": ""}
            key = {"system": "System", "user": "Prompt", "assistant": "Response"}.get(role)
            if key is not None:
                turn[key] = content
        written.append(writer.write(self._last_turn, turn | own))
        return "".join(written)

    def _prompt(self, text: str, marks: Marks) -> Prompt:
        return Prompt(text if text.startswith(self._bos) else self._bos + text, marks)


def _conversation(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a template that knows whole conversations looks at."""
    system = [message["content"] for message in given["messages"] if message["role"] == "system"]
    return {
        "System": "\n\n".join(system),
        "Messages": messages_value(given["messages"]),
        "Tools": tools_value(given["tools"]),
        "Response": "",
    }


class _Writer:
    """Writes one prompt: what came from outside, marked, and how much of it there is. All turns share one budget."""

    def __init__(self, outside: dict[str, Any], protected: str, own_private: str, limits: Limits) -> None:
        texts = list(strings_in(outside))
        if any(_SURROGATES.search(text) for text in texts if not text.isascii()):
            outside = _sound(outside)
        # All protected characters are marked, also those that no text has: lists print with brackets of their own.
        self.marks = choose_marks(protected, [protected, own_private, *texts])
        self.given = self.marks.mark_all(outside)
        self._budget = Budget(limits, sum(map(len, texts)))
        self._today = date.today()

    def write(self, templates: TemplateSet, values: Mapping[str, Any]) -> str:
        """Return what a template makes of its values."""
        try:
            return render(templates, dict(values), budget=self._budget, marks=self.marks, today=self._today)
        except TemplateError as error:
            raise TemplateError(
                self.marks.unmark(error.message), field="messages", hint=error.hint, line=error.line
            ) from error


def _sound(value: Any) -> Any:
    """Return a JSON value in which halves of characters, that escapes can write, are replaced as Go does."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_sound(key): _sound(item) for key, item in value.items()}
    return [_sound(item) for item in value] if isinstance(value, list | tuple) else value
