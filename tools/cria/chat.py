"""Llama 3.1's chat format: the Jinja template that goes into the GGUF, and the same in Python with targets marked.

Training needs to know which pieces are the model's own; a test holds both to the same text.
"""

from __future__ import annotations

import json
from typing import Any

from .conversation import MARK, Conversation, to_messages

BOS, EOT = "<|begin_of_text|>", "<|eot_id|>"

TEMPLATE = r"""{{- bos_token }}
{%- if tools is not defined or not tools %}
    {%- set tools = none %}
{%- endif %}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{%- if tools is not none or system_message %}
    {{- '<|start_header_id|>system<|end_header_id|>\n\n' }}
    {%- if tools is not none %}
        {{- 'Environment: ipython\n' }}
    {%- endif %}
    {{- system_message }}
    {{- '<|eot_id|>' }}
{%- endif %}
{%- set first = namespace(pending=tools is not none) %}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' and message.get('tool_calls') %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
        {%- for call in message['tool_calls'] %}
            {%- set call = call['function'] if 'function' in call else call %}
            {{- '{"name": "' + call['name'] + '", "parameters": ' }}
            {{- call['arguments'] if call['arguments'] is string else call['arguments'] | tojson }}
            {{- '}' }}
            {%- if not loop.last %}
                {{- '; ' }}
            {%- endif %}
        {%- endfor %}
        {{- '<|eot_id|>' }}
    {%- elif message['role'] == 'tool' or message['role'] == 'ipython' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}
        {{- message['content'] | trim if message['content'] is string else message['content'] | tojson }}
        {{- '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
        {%- if first.pending and message['role'] == 'user' %}
            {%- set first.pending = false %}
            {{- 'Given the following functions, please respond with a JSON for a function call ' }}
            {{- 'with its proper arguments that best answers the given prompt.\n\n' }}
            {{- 'Respond in the format {"name": function name, "parameters": ' }}
            {{- 'dictionary of argument name and its value}.' }}
            {{- 'Do not use variables.\n\n' }}
            {%- for tool in tools %}
                {{- tool | tojson(indent=4) }}
                {{- '\n\n' }}
            {%- endfor %}
        {%- endif %}
        {{- (message['content'] or '') | trim }}
        {{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}"""

_TOOL_INTRODUCTION = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)


def header(role: str) -> str:
    """Return the header that opens a message."""
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def _content(message: dict[str, Any]) -> str:
    if not message.get("tool_calls"):
        return str(message["content"]).strip()
    function = message["tool_calls"][0]["function"]
    return f'{{"name": "{function["name"]}", "parameters": {json.dumps(function["arguments"], ensure_ascii=False)}}}'


def pieces(conversation: Conversation, turns: int | None = None) -> list[tuple[str, bool]]:
    """Return the formatted text in pieces, each with whether the model is to produce it.

    With `turns`, only so many turns, ending with the header of the assistant's last answer.
    """
    messages = to_messages(conversation, turns)
    system = conversation.system or ""
    messages = messages[1:] if conversation.system is not None else messages
    text, found = BOS, []
    if system or conversation.tools:
        text += header("system") + ("Environment: ipython\n" if conversation.tools else "") + system.strip() + EOT
    introduction = _introduction(conversation)
    for message in messages:
        role = "ipython" if message["role"] == "tool" else message["role"]
        text += header(role)
        if role == "assistant":
            found.append((text, False))
            found += _drilled(message) if message.get("drill") else [(_content(message) + EOT, True)]
            text = ""
            continue
        text += (introduction if role == "user" else "") + _content(message) + EOT
        introduction = "" if role == "user" else introduction
    return found if turns is None else [*found, (text + header("assistant"), False)]


def _drilled(message: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return the pieces of a drill, whose targets stand between marks."""
    parts = str(message["content"]).split(MARK)
    return [(part, index % 2 == 1) for index, part in enumerate([*parts[:-1], parts[-1] + EOT])]


def _introduction(conversation: Conversation) -> str:
    if not conversation.tools:
        return ""
    return _TOOL_INTRODUCTION + "".join(
        json.dumps(tool, indent=4, ensure_ascii=False) + "\n\n" for tool in conversation.tools
    )
