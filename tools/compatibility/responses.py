"""What is sent to OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from camelid.server.openai.responses import bodies

from .openai import CACHED, GENERATION
from .shapes import STORED, Body, Dialect, Route, Shape

TOOL = {"type": "function", "name": "f"}
HI = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
RETURNED = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
PASSED_OVER = "earlier thoughts are passed over, as models' own templates do"
BACK = "what a client sends back with an item"
PROMPT: dict[str, Any] = {
    "input": ["x", [HI, HI]],
    "previous_response_id": [STORED, "nobody's"],
    "tools": [[TOOL]],
    "tool_choice": ["auto", "none", "required", {"type": "function", "name": "f"}],
    "parallel_tool_calls": [True, False],
    "text": [{}],
    "reasoning": [{}],
    "truncation": ["disabled", "auto"],
    "conversation": ["c"],
}
SILENT = {
    "text": "see below",
    "reasoning": "see below",
    "parallel_tool_calls": "the default",
    "truncation": "the default",
    "tool_choice": "the default",
}
COMPANY: dict[str, Any] = {"stream_options": {"stream": True}, "tool_choice": {"tools": [TOOL]}}


def _input(*items: Body) -> Body:
    return {"input": list(items)}


def _item(**own: Any) -> Any:
    return lambda fields: _input(HI, {**own, **fields})


def _part(kind: str, **own: Any) -> Any:
    return lambda fields: _input({"role": "user", "content": [{"type": kind, **own, **fields}]})


def _said(fields: Body) -> Body:
    return _input(HI, {"role": "assistant", "content": [{"type": "output_text", "text": "x", **fields}]})


STATUS = {"id": ["x_1"], "status": ["completed"]}
KEPT = {"id": BACK, "status": BACK}
CREATE = Route(
    "POST",
    "/v1/responses",
    [
        Shape(
            bodies.ResponseBody,
            "body",
            lambda fields: {"input": "hi", **fields},
            {
                **{name: value for name, value in GENERATION.items() if name != "n"},
                "stream_options": [{}],
                **PROMPT,
                "include": [
                    ["message.output_text.logprobs"],
                    ["reasoning.encrypted_content"],
                    ["file_search_call.results"],
                ],
                "metadata": [{"a": "b"}],
                "top_logprobs": [2],
                "store": [True, False],
                "background": [False, True],
                "prompt_cache_retention": ["in_memory", "24h"],
                "service_tier": ["auto", "default", "flex"],
            },
            {
                **SILENT,
                "include": "thoughts are not encrypted here",
                "store": "the default",
                "background": "the default",
                "prompt_cache_retention": CACHED,
                "service_tier": "there is one tier",
                "stream_options": "see below",
            },
            COMPANY,
        ),
        Shape(
            bodies.ResponseStreamOptions,
            "`stream_options`",
            lambda fields: {"input": "hi", "stream": True, "stream_options": fields},
            {"include_obfuscation": [False, True]},
            {"include_obfuscation": "the default"},
        ),
        Shape(
            bodies.Reasoning,
            "`reasoning`",
            lambda fields: {"input": "hi", "reasoning": fields},
            {"effort": ["none", "high"], "summary": ["auto"], "generate_summary": ["auto"]},
            {"effort": "no model here thinks on request"},
        ),
        Shape(
            bodies.TextConfig,
            "`text`",
            lambda fields: {"input": "hi", "text": fields},
            {"format": [{"type": "text"}, {"type": "json_object"}], "verbosity": ["medium", "low"]},
            {"format": "the default", "verbosity": "the default"},
        ),
        Shape(
            bodies.FunctionTool,
            "`tools[]`",
            lambda fields: {"input": "hi", "tools": [{**TOOL, **fields}]},
            {"parameters": [{"type": "object"}], "strict": [False, True]},
            {"strict": "the default"},
        ),
        Shape(
            bodies.InputMessage,
            "item `message`",
            _item(role="user", content="x"),
            {**STATUS, "role": ["assistant", "system", "developer"], "content": ["y"]},
            {**KEPT, "phase": BACK},
        ),
        Shape(
            bodies.InputText,
            "content part `input_text`",
            _part("input_text", text="x"),
            {"text": ["y"], "prompt_cache_breakpoint": [{}]},
            {"prompt_cache_breakpoint": CACHED},
        ),
        Shape(
            bodies.OutputText,
            "content part `output_text`",
            _said,
            {"text": ["y"], "annotations": [[]], "logprobs": [[]]},
            {"annotations": BACK, "logprobs": BACK},
        ),
        Shape(bodies.OutputRefusal, "content part `refusal`", _part("refusal")),
        Shape(bodies.InputImage, "content part `input_image`", _part("input_image")),
        Shape(bodies.InputFile, "content part `input_file`", _part("input_file")),
        Shape(bodies.InputAudio, "content part `input_audio`", _part("input_audio")),
        Shape(
            bodies.FunctionCall,
            "item `function_call`",
            _item(**CALL),
            {**STATUS, "arguments": ['{"a": 1}', "{"]},
            KEPT,
        ),
        Shape(
            bodies.FunctionCallOutput,
            "item `function_call_output`",
            lambda fields: _input(HI, CALL, CALL | {"call_id": "call_2"}, {**RETURNED, **fields}),
            {**STATUS, "call_id": ["call_2", "nobody's"], "output": ["y"], "name": ["f", "g"]},
            {**KEPT, "name": "the call has it already"},
        ),
        Shape(
            bodies.ReasoningItem,
            "item `reasoning`",
            _item(type="reasoning"),
            {**STATUS, "summary": [[]], "content": [[{}]]},
            dict.fromkeys(("id", "status", "summary", "content", "encrypted_content"), PASSED_OVER),
        ),
        Shape(bodies.ItemReference, "item `item_reference`", _item(type="item_reference", id="x_1")),
    ],
    "Labels (`user`, `metadata`, `prompt_cache_key`, `safety_identifier`) are given back in the response.",
)
COUNT = Route(
    "POST",
    "/v1/responses/input_tokens",
    [
        Shape(
            bodies.CountBody,
            "body",
            lambda fields: {"input": "hi", **fields},
            {**PROMPT, "model": ["other"], "personality": ["friendly"]},
            {
                **SILENT,
                "model": "the reply does not show it",
                "parallel_tool_calls": "does not change the prompt",
            },
            COMPANY,
        )
    ],
)
RESPONSES = Dialect(
    "OpenAI: responses",
    "Responses are kept in memory (1,024 of them, 64 MiB; the one unused for longest goes first) unless `store` is\n"
    "false, each for the key that asked. A restart forgets them.",
    [
        CREATE,
        COUNT,
        Route("GET", "/v1/responses/{response_id}", (), "A response that was kept. `stream` must be false."),
        Route("DELETE", "/v1/responses/{response_id}", (), "Forgets it."),
        Route(
            "GET",
            "/v1/responses/{response_id}/input_items",
            (),
            "Its input; `limit`, `after` and `order` are honoured.",
        ),
        Route("POST", "/v1/responses/{response_id}/cancel", (), "Refused: no response runs in the background."),
    ],
)
