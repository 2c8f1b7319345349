"""What is sent to Anthropic's routes."""

from __future__ import annotations

from typing import Any

from camelid.server.anthropic import bodies

from .openai import CACHED, LABEL
from .shapes import Body, Dialect, Route, Shape

HI = {"role": "user", "content": "hi"}
TOOL: Body = {"name": "f", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "t_1", "name": "f", "input": {}}
FORMAT: Body = {"type": "json_schema", "schema": {"type": "object"}}
CACHE: dict[str, Any] = {"cache_control": [{"type": "ephemeral"}]}
PROMPT: dict[str, Any] = {
    "model": ["other"],
    "messages": [[HI, HI]],
    "system": ["x", [{"type": "text", "text": "x"}]],
    "tools": [[TOOL]],
    "tool_choice": [{"type": "auto"}, {"type": "none"}, {"type": "any"}],
    "output_config": [{"format": FORMAT}],
    "thinking": [{"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}],
    **CACHE,
}
SILENT = {"cache_control": CACHED, "thinking": "the default", "tool_choice": "the default"}

COMPANY: dict[str, Any] = {"tool_choice": {"tools": [TOOL]}}


def _body(**fields: Any) -> Body:
    return {"model": "tiny", "max_tokens": 9, "messages": [HI], **fields}


def _block(kind: str, **own: Any) -> Any:
    return lambda fields: _body(messages=[{"role": "user", "content": [{"type": kind, **own, **fields}]}])


def _called(fields: Body) -> Body:
    return _body(messages=[HI, {"role": "assistant", "content": [{**CALL, **fields}]}])


def _returned(fields: Body) -> Body:
    result = {"type": "tool_result", "tool_use_id": "t_1", **fields}
    return _body(messages=[HI, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [result]}])


MESSAGES = Route(
    "POST",
    "/v1/messages",
    [
        Shape(
            bodies.MessagesBody,
            "body",
            lambda fields: _body(**fields),
            {
                **PROMPT,
                "max_tokens": [5, 0],
                "stop_sequences": [["x"]],
                "metadata": [{"user_id": "x"}],
                "service_tier": ["auto"],
                "top_k": [3],
            },
            {**SILENT, "metadata": LABEL, "service_tier": "there is one tier"},
            COMPANY,
        ),
        Shape(
            bodies.Message,
            "`messages[]`",
            lambda fields: _body(messages=[{**HI, **fields}]),
            {"role": ["assistant", "system"], "content": ["x"]},
        ),
        Shape(
            bodies.TextBlock,
            "block `text`",
            _block("text", text="x"),
            {"text": ["y"], "citations": [[]], **CACHE},
            {"cache_control": CACHED, "citations": "there is nothing to cite"},
        ),
        Shape(
            bodies.ToolUseBlock, "block `tool_use`", _called, {"input": [{"a": 1}], **CACHE}, {"cache_control": CACHED}
        ),
        Shape(
            bodies.ToolResultBlock,
            "block `tool_result`",
            _returned,
            {"tool_use_id": ["nobody's"], "content": ["x", [{"type": "text", "text": "x"}]], **CACHE},
            {"cache_control": CACHED},
        ),
        Shape(bodies.ImageBlock, "block `image`", _block("image")),
        Shape(bodies.DocumentBlock, "block `document`", _block("document")),
        Shape(
            bodies.Tool,
            "`tools[]`",
            lambda fields: _body(tools=[{**TOOL, **fields}]),
            {
                "input_schema": [{"type": "object", "properties": {}}],
                "type": ["custom", "bash_20250124"],
                "strict": [False, True],
                **CACHE,
            },
            {"cache_control": CACHED, "type": "the default", "strict": "the default"},
        ),
        Shape(
            bodies.ToolChoice,
            "`tool_choice`",
            lambda fields: _body(tools=[TOOL], tool_choice={"type": "auto", **fields}),
            {"type": ["none", "any", "tool"], "name": ["f"], "disable_parallel_tool_use": [False, True]},
            {"disable_parallel_tool_use": "the default", "name": "belongs to the type tool"},
        ),
        Shape(
            bodies.Thinking,
            "`thinking`",
            lambda fields: _body(thinking={"type": "disabled", **fields}),
            {"type": ["enabled", "adaptive"], "budget_tokens": [1024], "display": ["omitted"]},
            dict.fromkeys(("budget_tokens", "display"), "nothing is thought"),
        ),
        Shape(
            bodies.OutputConfig,
            "`output_config`",
            lambda fields: _body(output_config=fields),
            {"format": [FORMAT], "effort": ["high"]},
        ),
        Shape(
            bodies.JsonFormat,
            "`output_config.format`",
            lambda fields: _body(output_config={"format": {**FORMAT, **fields}}),
            {"type": ["json_schema", "text"], "schema": [{"type": "array"}]},
            {"type": "there is one type"},
        ),
    ],
    "Blocks of type `thinking` are passed over, as models' own templates do with earlier thoughts.",
)
COUNT = Route(
    "POST",
    "/v1/messages/count_tokens",
    [
        Shape(
            bodies.CountBody,
            "body",
            lambda fields: {"model": "tiny", "messages": [HI], **fields},
            PROMPT,
            {**SILENT, "model": "the reply does not show it", "output_config": "a prompt is counted, not its answer"},
            COMPANY,
        )
    ],
)
ANTHROPIC = Dialect(
    "Anthropic",
    "The Messages API, version 2023-06-01.",
    [
        MESSAGES,
        COUNT,
        Route(
            "GET",
            "/v1/models",
            (),
            "Anthropic's form of the list, for requests with the header `anthropic-version`; `limit`,\n"
            "`before_id` and `after_id` are honoured.",
        ),
        Route("GET", "/v1/models/{name}", (), "One of them."),
    ],
)
