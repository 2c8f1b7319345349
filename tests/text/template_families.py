"""Chat templates in the manner of the families in use, and conversations to render with them."""

# ruff: noqa: E501 - a line end in a template is a line end in the prompt

from __future__ import annotations

from camelid.types import Message, ToolCall, ToolSpec

CONTROL = (
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "<start_of_turn>"),
    *("<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>", "<｜User｜>"),
)

FAMILIES: dict[str, str] = {
    "llama-3": """{% for m in messages %}{% set text = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' +
m['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}""",
    "llama-3-own-words": "",  # replaced by the bundled one
    "chatml": """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'
}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "chatml-default-system": """{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}
{%- endif %}
{% for message in messages %}
    {%- if message.role == 'user' or message.role == 'system' %}
        {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' ~ message.role ~ '\n' }}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}{{ '\n' }}
    {%- endif %}
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    "mistral": """{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}
{%- else %}{% set system = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}
{%- for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{%- if message['role'] == 'user' %}{{ ' [INST] ' + (system + '\n\n' if loop.first and system else '') + message['content'].strip() + ' [/INST]' }}
{%- else %}{{ ' ' + message['content'].strip() + eos_token }}{% endif %}{% endfor %}""",
    "mistral-tools": """{{- bos_token }}{%- for message in messages %}{%- if message.role == 'user' %}
    {%- if tools is not none and loop.last %}{{- '[AVAILABLE_TOOLS] [' }}{% for tool in tools %}{% set tool = tool.function %}
        {{- '{"type": "function", "function": {' }}{% for key, val in tool.items() if key != 'return' %}
            {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}{% else %}{{- '"' + key + '": ' + val | tojson }}{% endif %}
            {%- if not loop.last %}{{- ', ' }}{% endif %}{% endfor %}{{- '}}' }}{% if not loop.last %}{{- ', ' }}{% endif %}
    {%- endfor %}{{- '][/AVAILABLE_TOOLS]' }}{% endif %}{{- '[INST] ' + message.content + '[/INST]' }}
{%- elif message.tool_calls is defined and message.tool_calls %}{{- '[TOOL_CALLS] [' }}{% for call in message.tool_calls %}
    {%- set out = call.function | tojson %}{{- out[:-1] }}{{- ', "id": "' + call.id + '"}' }}{% if not loop.last %}, {% endif %}
    {%- endfor %}{{- ']' + eos_token }}
{%- elif message.role == 'assistant' %}{{- ' ' + message.content | trim + eos_token }}
{%- elif message.role == 'tool' %}{{- '[TOOL_RESULTS] {"content": ' + message.content | string + ', "call_id": "' + (message.tool_call_id or '') + '"}[/TOOL_RESULTS]' }}
{%- else %}{{- message.content }}{% endif %}{%- endfor %}""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% else %}
{{ '<|' + message['role'] + '|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "phi": """{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}""",
    "qwen-tools": """{%- if tools %}{{- '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{% endif %}
{{- "# Tools\n\nYou may call functions inside <tools></tools>:\n<tools>" }}
{%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{% endfor %}{{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{% endif %}
{%- set ns = namespace(last_user=-1) %}
{%- for message in messages %}{% if message.role == "user" and not message.content.startswith('<tool_response>') %}
    {%- set ns.last_user = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in content and loop.index0 < ns.last_user %}{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}
        {{- '<|im_start|>assistant\n' + content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\n<tool_call>\n{"name": "' }}{{- call.function.name }}{{- '", "arguments": ' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}{{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\n<tool_response>\n' }}{{- message.content }}{{- '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{- '<|im_end|>\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}""",
    "deepseek": """{% set ns = namespace(system='') %}{% for message in messages %}{% if message['role'] == 'system' %}
{%- set ns.system = message['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}
{%- for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}{% endif %}
{%- if message['role'] == 'assistant' %}{{ message['content'].split('</think>')[-1] + '</s>' }}{% endif %}{% endfor %}""",
    "command": """{%- macro describe(tool) %}{{ tool.name }}({% for name, kind in tool.parameters.properties.items() %}{{ name }}: {{ kind.type
}}{% if not loop.last %}, {% endif %}{% endfor %}) -- {{ tool.description | upper | truncate(60) }}{% endmacro %}
{%- for tool in tools or [] %}{{ describe(tool.function) }}
{% endfor %}{% for message in messages %}{% if message.content is none %}{% continue %}{% endif %}
{%- if loop.index0 == 7 %}{% break %}{% endif %}<|im_start|>{{ message.role | title }}: {{ message.content[:200] | replace('\n', ' ') }}<|im_end|>
{% endfor %}{{ strftime_now('%Y') }}""",
}

WEATHER = ToolSpec(
    "get_weather",
    "Tells the weather in a city — today's & tomorrow's <b>.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "a city's name, e.g. Zürich"},
            "unit": {"type": "string", "enum": ["C", "F"], "default": None},
        },
        "required": ["city"],
    },
)
CALL = ToolCall("call12345", "get_weather", '{"city": "Zürich", "days": [1, 2.5, true, null], "q": "a \\"b\\" | c"}')

USER = Message("user", "  What is <b>2 < 3 | 4</b>?\n")
CONVERSATIONS: dict[str, tuple[tuple[Message, ...], tuple[ToolSpec, ...]]] = {
    "one question": ((USER,), ()),
    "with a system text": ((Message("system", "Be brief.\n\n"), USER), ()),
    "several turns": (
        (
            Message("system", "You speak 日本語 and emoji 👍🏽."),
            Message("user", "\n\nleading line ends"),
            Message("assistant", "<think>hm</think>\n\nSure | [ok] </b> "),
            Message("user", "a\tb {{ c }} {% d %} {'e': [1]}"),
        ),
        (),
    ),
    "ends with an answer": ((USER, Message("assistant", " An answer. ")), ()),
    "system in the middle": ((USER, Message("assistant", "ok"), Message("system", "x"), Message("user", "y")), ()),
    "two questions in a row": ((USER, Message("user", "and?")), ()),
    "empty contents": ((Message("system", ""), Message("user", "")), ()),
    "with tools": (
        (Message("system", "Use tools."), USER),
        (WEATHER, ToolSpec("noop", "", {"type": "object", "properties": {}})),
    ),
    "a call and its result": (
        (
            USER,
            Message("assistant", "", tool_calls=(CALL,)),
            Message("tool", '{"temperature": "21 °C"}', tool_call_id="call12345", name="get_weather"),
            Message("assistant", "21 degrees."),
            Message("user", "Thanks!"),
        ),
        (WEATHER,),
    ),
}
